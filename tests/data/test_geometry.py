"""Drawing and applying of augmentations, against detectron2's own way of doing both."""
# ruff: noqa: NPY002 (detectron2 draws from NumPy's global generator)

import random
import warnings

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

from mask2former.data.augmentation import lsj, shortest_edge
from mask2former.data.geometry import Geometry, draw, to_planes

H, W = 48, 64
AREA_CROP = T.RandomCrop_CategoryAreaConstraint("absolute", (20, 24), 0.6, 255)
CHAINS = {
    "lsj": lsj(40, 0.3, 2.0),
    "lsj, vertical": lsj(40, 0.3, 2.0, flip="vertical"),
    "crop": shortest_edge((30, 51, 77), 120, crop=T.RandomCrop("absolute", (20, 24))),
    "area crop": shortest_edge((30, 51), 120, crop=AREA_CROP),
    "colour": shortest_edge((30, 51), 120, colour_format="RGB", flip="none"),
    "range": shortest_edge((30, 51), 60, sampling="range", crop=T.RandomCrop("relative", (0.5, 1))),
    "small crop, then by size": [*lsj(40, 0.3, 0.8), T.RandomFlip(), T.Resize((33, 41))],
    "rotation": [T.RandomRotation(20), T.RandomFlip(), T.Resize((33, 41))],
    "padding": [T.ResizeScale(0.3, 2.0, 40, 40), T.FixedSizeCrop((40, 40))],
    "padding, then by size": [T.FixedSizeCrop((50, 70)), T.RandomFlip(), T.Resize((33, 41))],
    "fixed": [T.HFlipTransform(W), T.ResizeTransform(H, W, 31, 77), T.CropTransform(3, 4, 50, 20)],
    "none": [],
}


def _seed(seed: int) -> None:
    np.random.seed(seed)
    random.seed(seed)


def _smooth_image() -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    return np.stack([x * 3, y * 5, (x + y) * 2], axis=2).astype(np.uint8)


def _blocks(dtype=np.uint8) -> np.ndarray:
    blocks = np.random.default_rng(1).integers(0, 6, (H // 4, W // 4))
    return blocks.repeat(4, 0).repeat(4, 1).astype(dtype)


def _by_detectron2(chain, labels: np.ndarray | None = None):
    """The transformed image, and the transforms, by detectron2."""
    aug_input = T.AugInput(_smooth_image(), sem_seg=labels)
    transforms = T.AugmentationList(chain)(aug_input)
    return aug_input.image, transforms


# Agreement with detectron2


@pytest.mark.parametrize("name", CHAINS)
def test_result_is_that_of_detectron2(name: str) -> None:
    chain, labels = CHAINS[name], _blocks()
    for seed in range(12):
        _seed(seed)
        expected, transforms = _by_detectron2(chain, labels.astype(np.float64))
        next_numbers = np.random.rand(), random.random()
        _seed(seed)
        geometry = draw(chain, _smooth_image(), labels)
        image = geometry.apply_image(_smooth_image())
        assert (np.random.rand(), random.random()) == next_numbers  # as many were drawn

        assert image.shape == expected.shape
        assert np.abs(image.astype(int) - expected).max() <= (4 if name == "colour" else 1)
        np.testing.assert_array_equal(
            geometry.apply_labels(labels), transforms.apply_segmentation(labels)
        )
        np.testing.assert_array_equal(
            geometry.apply_labels(labels, corner=True),
            transforms.apply_segmentation(labels.astype(np.float64)),
        )
        points = np.array([[0.0, 0.0], [10.5, 3.25], [W, H]])
        np.testing.assert_allclose(
            geometry.apply_points(points), transforms.apply_coords(points.copy())
        )
        assert points[0].tolist() == [0, 0]  # untouched


@pytest.mark.parametrize("new", [1, 7, 470, 550, 640, 795, 1283])
def test_nearest_pixels_are_those_of_pillow_and_of_torch(new: int) -> None:
    resize = T.ResizeTransform(1, 640, 1, new)
    labels = (np.arange(640) // 2 % 256).astype(np.uint8)[None]
    geometry = Geometry([resize], (1, 640))
    np.testing.assert_array_equal(geometry.apply_labels(labels), resize.apply_segmentation(labels))
    np.testing.assert_array_equal(
        geometry.apply_labels(labels, corner=True),
        resize.apply_segmentation(labels.astype(np.float64)),
    )


# Invariants


@pytest.mark.parametrize("name", ["lsj", "rotation"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_labels_of_every_type_keep_type_and_values(name: str, dtype) -> None:
    labels = _blocks(dtype)
    wide = labels * np.array(1 if dtype is np.uint8 else 300, dtype)
    geometry = draw(CHAINS[name], _smooth_image())
    moved = geometry.apply_labels(wide)
    assert moved.dtype == dtype
    factor = 1 if dtype is np.uint8 else 300
    np.testing.assert_array_equal(moved // factor, geometry.apply_labels(labels))


def test_points_and_labels_move_together() -> None:
    for seed in range(10):
        _seed(seed)
        geometry = draw(lsj(200, 0.8, 2.0), _smooth_image())
        labels = np.zeros((H, W), np.uint8)
        labels[20:30, 36:44] = 1
        rows, columns = np.nonzero(geometry.apply_labels(labels))
        corners = geometry.apply_points(np.array([[36.0, 20.0], [44.0, 30.0]]))
        low, high = corners.min(axis=0), corners.max(axis=0)
        if rows.size and (low >= 0).all() and (high <= 200).all():
            assert abs(columns.min() - low[0]) <= 0.5
            assert abs(columns.max() + 1 - high[0]) <= 0.5
            assert abs(rows.min() - low[1]) <= 0.5
            assert abs(rows.max() + 1 - high[1]) <= 0.5


def test_labels_from_outside_are_filled_whatever_the_transform_would_fill() -> None:
    pad = T.PadTransform(0, 0, 2, 1, seg_pad_value=9)
    labels = Geometry([pad], (1, 2)).apply_labels(np.array([[3, 4]], np.uint8), fill=7)
    np.testing.assert_array_equal(labels, [[3, 4, 7, 7], [7, 7, 7, 7]])
    wide = Geometry([pad], (1, 2)).apply_labels(np.array([[300, 4]], np.uint16), fill=1000)
    np.testing.assert_array_equal(wide, [[300, 4, 1000, 1000], [1000] * 4])


# Edges


def test_a_long_thin_image_does_not_vanish_where_pixels_are_looked_at() -> None:
    chain = [T.ResizeShortestEdge(800, 1333), T.RandomBrightness(1, 1)]  # which looks at pixels
    for shape in ((1, 10000, 3), (10000, 1, 3)):
        image = np.zeros(shape, np.uint8)
        geometry = draw(chain, image)
        assert sorted(geometry.apply_image(image).shape[:2]) == [1, 1333]


def test_a_long_thin_image_does_not_vanish() -> None:
    image = np.zeros((2, 900, 3), np.uint8)
    geometry = draw([T.ResizeScale(0.1, 0.1, 100, 100)], image)
    assert geometry.apply_image(image).shape == (1, 10, 3)
    assert geometry.apply_labels(image[:, :, 0]).shape == (1, 10)


def test_an_image_that_may_not_be_written_to_is_resized_without_a_warning() -> None:
    image = _smooth_image()
    image.flags.writeable = False
    torch.set_warn_always(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw([T.Resize((5, 6))], image).apply_image(image).shape == (5, 6, 3)
    torch.set_warn_always(False)


def test_no_image_is_transformed_twice() -> None:
    class Counting(T.NoOpTransform):
        calls = 0

        def apply_image(self, image: np.ndarray) -> np.ndarray:
            self.calls += 1
            return image

    transform = Counting()
    draw([transform], _smooth_image()).apply_image(_smooth_image())
    assert transform.calls == 1


def test_grey_and_float_images_pass() -> None:
    for image in (_smooth_image()[:, :, :1], _smooth_image().astype(np.float32)):
        geometry = draw([T.Resize((24, 32)), T.HFlipTransform(32)], image)
        assert geometry.apply_image(image).shape == (24, 32, image.shape[2])


def test_colour_is_drawn_anew_for_every_image() -> None:
    geometry = draw([ColorAugSSDTransform("RGB")], _smooth_image())
    _seed(0)
    results = [geometry.apply_image(_smooth_image()) for _ in range(8)]
    assert any((result != results[0]).any() for result in results)


def test_area_crop_needs_labels_only_if_it_looks_at_them() -> None:
    draw([T.RandomCrop_CategoryAreaConstraint("absolute", (5, 5), 1.0, 255)], _smooth_image())
    with pytest.raises(ValueError, match="SINGLE_CATEGORY_MAX_AREA below 1 needs a semantic map"):
        draw([AREA_CROP], _smooth_image())


def test_planes_are_padded_on_the_right_and_below() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    planes = to_planes(image, (3, 4), 128)
    assert planes.dtype == torch.uint8
    assert planes[1].tolist() == [[1, 4, 128, 128], [7, 10, 128, 128], [128] * 4]
    torch.testing.assert_close(to_planes(image, (2, 2), 128), planes[:, :2, :2])
