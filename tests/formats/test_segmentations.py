"""Polygons, RLE and bitmaps of annotations: drawing, decoding, and what is refused."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.formats.segmentations import (
    check_classes,
    decode_bitmap,
    describe,
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


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.floats(-15, W + 15, width=16), st.floats(-15, H + 15, width=16)),
            min_size=3,
            max_size=8,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_polygons_are_drawn_as_on_the_whole_image(corners) -> None:
    polygons = [[number for corner in polygon for number in corner] for polygon in corners]
    mask, inside = _drawn(*polygons)
    np.testing.assert_array_equal(mask, _by_pycocotools(*polygons))
    assert inside or not mask.any()


# Errors


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "expected polygons, an RLE or a bitmap, got none"),
        ("1 2 3", "expected polygons, an RLE or a bitmap, got str"),
        (SQUARE, r"expected a list of polygons .*, got 2.0 in the place of a polygon"),
        ([["a", "b", "c", "d", "e", "f"]], "in the place of a polygon"),
        ([[1, 2, 3, 4, 5, float("nan")]], "no number"),
        ([[1, 2, 3, 4, 5, 1e9]], "beyond all size"),
    ],
)
def test_unusable_segmentations_name_the_annotation(segmentation, message: str) -> None:
    with pytest.raises(ValueError, match=f"annotation 17: .*{message}"):
        valid_polygons({"segmentation": segmentation, "id": 17}, 3)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [3, 4], "counts": [12]}, r"expected .* \(3, 2\), got \(3, 4\)"),
        ({"counts": [6]}, r"got \(\)"),
        (np.zeros((2, 3)), r"got \(2, 3\)"),
        ({"size": [3, 2], "counts": [4, 9]}, "damaged RLE .runs that cover 13 pixels"),
        ({"size": [3, 2], "counts": [-1, 7]}, "damaged RLE"),
        ({"size": [3, 2], "counts": None}, "damaged RLE"),
        ({"size": [3, 2], "counts": b"ooooo"}, "damaged RLE"),
        ({"size": [3, 2]}, "damaged RLE"),
    ],
)
def test_damaged_masks_name_the_annotation(segmentation, message: str) -> None:
    with pytest.raises(ValueError, match=f"annotation number 3: .*{message}"):
        decode_bitmap({"segmentation": segmentation}, 3, (3, 2))


def test_annotations_are_called_by_their_id_if_they_have_one() -> None:
    assert describe({"id": 5}, 2) == "annotation 5"
    assert describe({}, 2) == "annotation number 2"


@pytest.mark.parametrize("category", [-1, 3])
def test_classes_that_the_model_lacks_are_named(category: int) -> None:
    check_classes([0, 1, 2], 3, str)
    with pytest.raises(ValueError, match=rf"no\. 1 has class {category}; .* allows 0 to 2"):
        check_classes([2, category, 0], 3, "no. {}".format)
