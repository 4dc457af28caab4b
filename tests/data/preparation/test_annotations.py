"""Segment ids, masks and tables, on values worked out by hand."""

import numpy as np
import pytest
from pycocotools import mask as mask_util

from mask2former.data.preparation.annotations import (
    check_segments,
    encode_mask,
    free_id,
    measure_segments,
)


def test_free_ids_are_unique_and_look_like_the_class():
    taken: list[int] = []
    for _ in range(300):
        taken.append(free_id([220, 20, 60], taken))
    assert len(set(taken)) == 300
    assert taken[0] == 220 + 256 * 20 + 65536 * 60
    assert all(0 < i < 2**24 for i in taken)


def test_black_is_no_segment_id():
    assert free_id([0, 0, 0], ()) > 0


def test_encode_mask():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    mask[2, 2] = False
    encoded = encode_mask(mask)
    assert encoded["bbox"] == [2, 1, 4, 2] and encoded["area"] == 7
    assert (mask_util.decode(encoded["segmentation"]) == mask).all()
    assert isinstance(encoded["segmentation"]["counts"], str)


def test_measure_segments():
    ids = np.zeros((4, 6), np.int32)
    ids[0, 0] = ids[3, 5] = 9
    ids[1:3, 1:3] = 70000
    assert measure_segments(ids) == {
        9: {"area": 2, "bbox": [0, 0, 6, 4]},
        70000: {"area": 4, "bbox": [1, 1, 2, 2]},
    }
    assert measure_segments(ids * 0) == {}


def test_check_segments(tmp_path):
    ids = np.array([[0, 5], [5, 6]])
    check_segments(ids, {5: 1, 6: 1}, tmp_path)
    with pytest.raises(ValueError, match=r"segments \[6\] are only in the PNG, \[8\] only in the"):
        check_segments(ids, {5: 1, 8: 1}, tmp_path)
