"""Results that the graph of a file has made, over a canvas that is larger than the image."""

import numpy as np
import pytest

from mask2former.runtime.metadata import Metadata
from mask2former.runtime.postprocessing.segmenting import Segmenter
from mask2former.runtime.resizing import Canvas

# An image of 4 x 6 pixels, which was drawn at half of its size onto a canvas of 3 x 5.
CANVAS = Canvas((3, 5), (2, 3), (4, 6))


def segmenter(postprocess: str, kind: str = "image") -> Segmenter:
    three = (1.0, 1.0, 1.0)
    classes = {"class_names": ("cup", "sky", "dog"), "thing_ids": (0, 2)}
    sizes = {"size_divisibility": 1, "min_size": 2, "max_size": 3}
    values = {"kind": kind, "postprocess": postprocess, "channel_order": "RGB"}
    return Segmenter(Metadata(**values, **classes, **sizes, pixel_mean=three, pixel_std=three))


def test_labels_are_doubled():
    labels = np.array([[0, 1, 2, 9, 9], [2, 2, 1, 9, 9], [9] * 5], np.int32)
    found = segmenter("semantic", "per_pixel")(labels, CANVAS)["sem_seg"]
    row, other = [0, 0, 1, 1, 2, 2], [2, 2, 2, 2, 1, 1]
    assert found.tolist() == [row, row, other, other]
    assert found.dtype == np.int32


def test_segments_that_lie_in_the_padding_are_left_out():
    ids = np.array([[1, 0, 3, 2, 2], [1, 1, 3, 2, 2], [2] * 5], np.int32)
    classes = np.array([0, 2, 1, -1], np.int32)
    found, segments = segmenter("panoptic")(ids, classes, np.int32(3), CANVAS)["panoptic_seg"]
    assert found[0].tolist() == [1, 1, 0, 0, 3, 3] and found.shape == (4, 6)
    assert segments == [
        {"id": 1, "isthing": True, "category_id": 0},
        {"id": 3, "isthing": False, "category_id": 1},
    ]


def test_as_many_instances_as_are_meant():
    masks = np.zeros((3, 3, 5), np.uint8)
    masks[0, 0, 1], masks[1, 2, 4], masks[2] = 1, 1, 1  # the second in the padding alone
    boxes, scores = np.zeros((3, 4), np.float32), np.array([0.5, 0.25, 0], np.float32)
    classes = np.array([2, 0, -1], np.int32)
    outputs = (masks, boxes, scores, classes, np.int32(2))
    found = segmenter("instance")(*outputs, CANVAS)["instances"]
    assert found.pred_masks.sum((1, 2)).tolist() == [4, 0]
    assert found.pred_boxes.tolist() == [[2, 0, 4, 2], [0, 0, 0, 0]]
    assert found.scores.tolist() == [0.5, 0.25]
    assert found.pred_classes.tolist() == [2, 0] and found.pred_classes.dtype == np.int64


def test_results_that_a_kind_cannot_have():
    with pytest.raises(ValueError, match="postprocess: expected one of .* that fits the kind"):
        segmenter("panoptic", "per_pixel")
