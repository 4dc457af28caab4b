"""Polygons, RLE and bitmaps of annotations: drawing, decoding, and what is refused."""

import logging
from collections import Counter

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.errors import UserError
from mask2former.formats.rle import encode_masks, run_lengths
from mask2former.formats.segmentations import (
    compress,
    decode_bitmap,
    describe,
    draw_mask,
    rasterise,
    valid_polygons,
)

H, W = 20, 30
SQUARE = [2.0, 3.0, 6.0, 3.0, 6.0, 8.0, 2.0, 8.0]  # x from 2 to 6, y from 3 to 8


def _drawn(*polygons) -> tuple[np.ndarray, bool]:
    mask = np.zeros((H, W), bool)
    inside = rasterise([np.array(p, np.float64).reshape(-1, 2) for p in polygons], mask)
    return mask, inside


def _by_pycocotools(*polygons) -> np.ndarray:
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(list(polygons), H, W))) > 0


# Values worked out by hand


def test_a_square_covers_its_pixels() -> None:
    expected = np.zeros((H, W), bool)
    expected[3:8, 2:6] = True
    mask, inside = _drawn(SQUARE)
    assert inside
    np.testing.assert_array_equal(mask, expected)


def test_fifths_are_rounded_from_the_corner_of_the_image() -> None:
    polygon = [155.7, 71.7, 154.4, 71.9, 154.7, 73.7, 155, 74.3, 158.3, 74, 156.6, 73.2]
    mask = np.zeros((256, 256), bool)
    assert rasterise([np.array(polygon).reshape(-1, 2)], mask)
    # 155.7 is 778.5 fifths, half way, which 1.7, the same point in a window from 154 on, is not
    expected = mask_util.decode(mask_util.frPyObjects([polygon], 256, 256))[:, :, 0] > 0
    np.testing.assert_array_equal(mask, expected)
    assert mask.sum() == 3


def test_polygons_unite() -> None:
    mask, _ = _drawn(SQUARE, [4, 3, 10, 3, 10, 8, 4, 8])
    assert mask[3:8, 2:10].all() and mask.sum() == 40


@pytest.mark.parametrize(
    ("polygon", "inside"),
    [
        ([5.2, 5.2, 5.3, 5.2, 5.3, 5.3, 5.2, 5.3], True),  # less than a pixel
        ([-9, 2, -1, 2, -1, 6, -9, 6], False),
        ([-9, 2, 0, 2, 0, 6, -9, 6], False),  # touches the border from outside
        ([-9, 2, 0.01, 2, 0.01, 6, -9, 6], True),  # a sliver within
        ([W + 1, 2, W + 5, 2, W + 5, 6], False),
        ([3, H + 1, 8, H + 1, 8, H + 5], False),
        # Around the upper left corner: its box meets the image, the shape itself does not.
        ([-4, 2.4, -4, -4, 2.4, -4, 2.4, -3, -3, -3, -3, 2.4], False),
        ([3, 3, 9, 3, 15, 3], False),  # no area
    ],
)
def test_shapes_without_pixels_lie_inside_or_not(polygon: list[float], inside: bool) -> None:
    mask, found = _drawn(polygon)
    assert not mask.any()
    assert found == inside


def test_polygons_of_too_few_points_are_left_out_with_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectron2.utils.logger._LOG_COUNTER", Counter())  # it is logged once
    with caplog.at_level(logging.WARNING):
        polygons = valid_polygons(
            {"segmentation": [SQUARE, [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]], "id": 17}, 0
        )
    assert [p.tolist() for p in polygons] == [[[2, 3], [6, 3], [6, 8], [2, 8]]]
    assert "fewer than 3 points, first in annotation 17" in caplog.text
    assert valid_polygons({"segmentation": []}, 0) == []


def test_arrays_will_do_as_polygons() -> None:
    assert valid_polygons({"segmentation": [np.array(SQUARE)]}, 0)[0].shape == (4, 2)


@pytest.mark.parametrize("counts", ["bytes", "text", "list"])
def test_every_kind_of_rle_is_decoded(counts: str) -> None:
    bitmap = np.zeros((3, 2), np.uint8)
    bitmap[1:, 0] = bitmap[0, 1] = 1  # down the columns: one 0, three 1, two 0
    rle = mask_util.encode(np.asfortranarray(bitmap))
    rle["counts"] = {"bytes": rle["counts"], "text": rle["counts"].decode(), "list": [1, 3, 2]}[
        counts
    ]
    assert valid_polygons({"segmentation": rle}, 0) is None
    np.testing.assert_array_equal(decode_bitmap({"segmentation": rle}, 0, (3, 2)), bitmap)


def test_bitmaps_of_any_number_become_0_and_1() -> None:
    annotation = {"segmentation": np.array([[0, 255], [7, 0]])}
    assert valid_polygons(annotation, 0) is None
    decoded = decode_bitmap(annotation, 0, (2, 2))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, [[0, 1], [1, 0]])


# Agreement with pycocotools on the whole image


def _polygons(steps: int):
    """Up to three polygons in and around the image; coordinates in parts of 1, 0 for any floats."""

    def numbers(size: int):
        if not steps:
            return st.floats(-15, size + 15)
        return st.integers(-15 * steps, (size + 15) * steps).map(lambda n: n / steps)

    corner = st.tuples(numbers(W), numbers(H))
    return st.lists(st.lists(corner, min_size=3, max_size=8), min_size=1, max_size=3)


@pytest.mark.parametrize("steps", [2, 5, 10, 0])  # annotation tools write tenths
@settings(max_examples=100)
@given(data=st.data())
def test_any_polygons_are_drawn_as_pycocotools_draws_them(steps: int, data) -> None:
    corners = data.draw(_polygons(steps))
    polygons = [[number for corner in polygon for number in corner] for polygon in corners]
    mask, inside = _drawn(*polygons)
    np.testing.assert_array_equal(mask, _by_pycocotools(*polygons))
    assert inside or not mask.any()


def test_compress_takes_every_form() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:6] = True
    text = encode_masks(mask[None])[0]
    runs = run_lengths(text, 6, 8)
    polygon = [2, 1, 6, 1, 6, 4, 2, 4]
    assert compress(text, 6, 8) == text
    assert compress({"size": [6, 8], "counts": runs.tolist()}, 6, 8) == text
    assert compress({"size": [6, 8], "counts": text["counts"].encode()}, 6, 8) == text
    np.testing.assert_array_equal(mask_util.decode(compress([polygon], 6, 8)), mask)
    assert compress([text, {"size": [6, 8], "counts": [48]}], 6, 8) == text
    for nothing in ([], [[]], [[1, 1, 2, 2]], [[1, 2, 3, 4, 5]]):  # two points are no polygon
        assert not mask_util.decode(compress(nothing, 6, 8)).any()


@settings(max_examples=100)
@given(st.lists(st.lists(st.floats(-15, 45, width=16), max_size=11), min_size=1, max_size=3))
def test_compress_draws_what_pycocotools_draws(polygons) -> None:
    polygons = [[1, 1, 9, 1, 9, 9], *polygons]  # the first one says that it is no list of boxes
    expected = mask_util.merge(mask_util.frPyObjects(polygons, H, W))
    assert compress(polygons, H, W) == {**expected, "counts": expected["counts"].decode()}


def test_any_form_is_drawn() -> None:
    expected = _drawn(SQUARE)[0]
    (rle,) = encode_masks(expected[None])
    for segmentation in ([SQUARE], rle, expected):
        mask = draw_mask({"segmentation": segmentation}, 0, (H, W))
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected)
    assert not draw_mask({"segmentation": []}, 0, (H, W)).any()


# Errors


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e30, 2e6])
def test_coordinates_that_cannot_be_are_refused_in_training_and_scoring(number: float) -> None:
    polygons = [SQUARE, [1, 2, 3, 4, 5, number]]
    with pytest.raises(ValueError, match="annotation number 0: .*no number or far outside"):
        valid_polygons({"segmentation": polygons}, 0)
    with pytest.raises(ValueError, match="no number or far outside"):
        compress(polygons, H, W)


@pytest.mark.parametrize("segmentation", [None, "polygon", b"", 3])
def test_what_is_no_mask_is_refused(segmentation) -> None:
    with pytest.raises(ValueError, match="expected polygons, an RLE or a bitmap, got"):
        compress(segmentation, H, W)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "expected polygons, an RLE or a bitmap, got none"),
        ("1 2 3", "expected polygons, an RLE or a bitmap, got str"),
        (SQUARE, r"expected a list of polygons .*, got 2.0 in the place of a polygon"),
        ([["a", "b", "c", "d", "e", "f"]], "in the place of a polygon"),
        ([[1, 2, 3, 4, 5, float("nan")]], "no number"),
        ([[1, 2, 3, 4, 5, 1e9]], "far outside of the image"),
    ],
)
def test_unusable_segmentations_name_the_annotation(segmentation, message: str) -> None:
    with pytest.raises(ValueError, match=f"annotation 17: .*{message}"):
        valid_polygons({"segmentation": segmentation, "id": 17}, 3)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [3, 4], "counts": [12]}, r"RLE size: expected \[3, 2\], got \[3, 4\]"),
        ({"counts": [6]}, "got None"),
        (np.zeros((2, 3)), r"got \(2, 3\)"),
        ({"size": [3, 2], "counts": [4, 9]}, "2 runs over 13 of 6 pixels"),
        ({"size": [3, 2], "counts": [-1, 7]}, "RLE counts"),
        ({"size": [3, 2], "counts": None}, "RLE counts"),
        ({"size": [3, 2], "counts": b"ooooo"}, "RLE counts"),
        ({"size": [3, 2]}, "RLE counts"),
    ],
)
def test_damaged_masks_name_the_annotation(segmentation, message: str) -> None:
    with pytest.raises(ValueError, match=f"annotation number 3: .*{message}"):
        decode_bitmap({"segmentation": segmentation}, 3, (3, 2))


def test_annotations_are_called_by_their_id_if_they_have_one() -> None:
    assert describe({"id": 5}, 2) == "annotation 5"
    assert describe({}, 2) == "annotation number 2"


@pytest.mark.parametrize("segmentation", [[[2, 2, 9, 2, 9, 12]], [[1, 1]]], ids=["drawn", "empty"])
def test_more_pixels_than_an_rle_counts_are_refused(segmentation) -> None:
    """pycocotools would write behind its memory."""
    with pytest.raises(UserError, match="16000000001 x 20 pixels are more than an RLE can count"):
        compress(segmentation, 16_000_000_001, 20)
