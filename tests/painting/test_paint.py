"""Painting: pixel values worked out by hand, sizes, errors."""

import numpy as np
import pytest

from mask2former.painting import Region, paint

RED = np.array([1.0, 0.0, 0.0])
BLUE = np.array([0.0, 0.0, 1.0])
GREY = 100
SIDE = 400  # large enough not to be enlarged
TINTED = [0.45 * GREY + 0.55 * 255, 0.45 * GREY, 0.45 * GREY]


def grey(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def box(top: int, bottom: int, left: int, right: int, shape: tuple[int, int] = (SIDE, SIDE)):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_colours_inside_border_and_outside() -> None:
    mask = box(20, 220, 40, 240)
    picture = paint(grey(), [Region(mask, RED, "")])
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
    inner = box(21, 219, 41, 239)
    np.testing.assert_allclose(picture[inner], np.broadcast_to(TINTED, (198 * 198, 3)), atol=0.5)
    assert (picture[mask & ~inner] == [255, 0, 0]).all()
    assert (picture[~mask] == GREY).all()


def test_holes_stay_and_have_a_border() -> None:
    mask = box(20, 320, 20, 320)
    mask[100:200, 100:200] = False
    picture = paint(grey(), [Region(mask, RED, "")])
    assert (picture[100:200, 100:200] == GREY).all()
    assert (picture[99, 100:200] == [255, 0, 0]).all()


def test_later_regions_lie_on_top() -> None:
    regions = [Region(box(0, 300, 0, 300), RED, ""), Region(box(100, 200, 100, 200), BLUE, "")]
    picture = paint(grey(), regions)
    expected = np.array([0.45 * round(TINTED[0]), 0.45 * 45, 0.45 * 45 + 0.55 * 255])
    np.testing.assert_allclose(picture[150, 150], expected, atol=0.5)
    np.testing.assert_allclose(picture[50, 50], TINTED, atol=0.5)


def test_the_image_stays_as_it_was() -> None:
    image = grey()
    paint(image, [Region(box(0, 300, 0, 300), RED, "")])
    assert (image == GREY).all()


@pytest.mark.parametrize(
    ("size", "times"),
    [
        ((384, 500), 1),
        ((383, 500), 2),
        ((128, 100), 4),
        ((1, 1), 384),
        ((2, 1000), 2),
        ((1, 3000), 1),
    ],
)
def test_small_images_are_enlarged_unless_they_get_too_long(
    size: tuple[int, int], times: int
) -> None:
    assert paint(grey(*size), []).shape == (times * size[0], times * size[1], 3)


def test_enlarged_pixels_are_squares() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(
        paint(image, []), np.kron(image, np.ones((192, 192, 1), np.uint8))
    )


@pytest.mark.parametrize("size", [(1, 1), (128, 2), (100, 128)])
def test_a_region_of_one_pixel_is_seen(size: tuple[int, int]) -> None:
    mask = box(0, 1, size[1] - 1, size[1], size)
    picture = paint(grey(*size), [Region(mask, RED, "")])
    times = len(picture) // size[0]
    painted = (picture != GREY).any(-1)
    assert painted[:times, -times:].all() and painted.sum() == times * times


def test_names_stand_below_the_middle_of_the_widest_part() -> None:
    mask = box(20, 120, 20, 120) | box(60, 70, 120, 390)  # a square with a long handle
    without = paint(grey(), [Region(mask, RED, "")])
    picture = paint(grey(), [Region(mask, RED, "kettle")])
    rows, columns = np.nonzero((picture != without).any(-1))
    assert abs((columns.min() + columns.max()) / 2 - 70) < 3
    assert 68 <= rows.min() < rows.max() < 95


def test_empty_regions_and_no_regions_change_nothing() -> None:
    empty = Region(np.zeros((SIDE, SIDE), bool), RED, "nothing")
    np.testing.assert_array_equal(paint(grey(), [empty]), grey())
    np.testing.assert_array_equal(paint(grey(), []), grey())


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8, got") as info:
        paint(image, [])
    assert str(image.shape) in str(info.value)


def test_masks_of_another_size_are_refused() -> None:
    region = Region(np.ones((4, 5), bool), RED, "cat")
    with pytest.raises(ValueError, match=r"cat: expected .* \(5, 4\) .*, got \(4, 5\)"):
        paint(grey(5, 4), [region])


# Quick pictures, for video


def painted(*regions: Region, image: np.ndarray | None = None) -> np.ndarray:
    return paint(grey(300, 400) if image is None else image, regions, quick=True)


def region(size=(300, 400), rows=(100, 200), columns=(50, 150), name="") -> Region:
    return Region(box(*rows, *columns, size), RED, name)


def test_quick_inside_is_mixed_the_border_is_not_and_outside_stays() -> None:
    image = grey(300, 400)
    picture = painted(region(), image=image)
    assert picture.shape == image.shape
    assert np.array_equal(image, grey(300, 400))
    assert picture[110, 60].tolist() == pytest.approx([178, 50, 50], abs=1)
    assert picture[100, 60].tolist() == [255, 0, 0]
    assert picture[199, 149].tolist() == [255, 0, 0]
    outside = np.ones((300, 400), bool)
    outside[98:202, 48:152] = False
    assert (picture[outside] == 100).all()


def test_small_frames_are_enlarged_less() -> None:
    picture = painted(region((100, 120), (10, 90), (20, 110)), image=grey(100, 120))
    assert picture.shape == (300, 360, 3)
    assert picture[30 * 3, 20 * 3].tolist() == [255, 0, 0]
    assert picture[5, 5].tolist() == [100, 100, 100]


def test_quick_names_stand_inside_and_within_the_frame() -> None:
    plain = painted(region())
    named = painted(region(name="dog 98%"))
    changed = np.argwhere((plain != named).any(-1))
    assert len(changed) > 50
    assert (np.abs(changed.mean(0) - (150, 100)) < 25).all()
    at_edge = painted(region(rows=(0, 6), columns=(390, 400), name="a long name"))
    assert (at_edge[:30] > 180).all(-1).sum() > 20  # white letters


def test_quick_regions_without_pixels_and_with_holes() -> None:
    empty = region(rows=(5, 5), name="nothing")
    assert np.array_equal(painted(empty), grey(300, 400))
    ring = region()
    ring.mask[140:160, 90:110] = False
    picture = painted(ring)
    assert picture[150, 100].tolist() == [100, 100, 100]
    assert picture[139, 100].tolist() == [255, 0, 0]


def test_quick_outlines_run_along_the_margin_of_the_frame_and_those_of_stills_do_not() -> None:
    everywhere = region(rows=(0, 300), columns=(0, 400))
    outline = np.zeros((300, 400), bool)
    outline[[0, -1]] = outline[:, [0, -1]] = True
    red = (painted(everywhere) == [255, 0, 0]).all(-1)
    np.testing.assert_array_equal(red, outline)
    still = paint(grey(), [region((SIDE, SIDE), (0, SIDE), (0, SIDE))])
    assert not (still == [255, 0, 0]).all(-1).any()
