"""Scores of queries: values by hand."""

import numpy as np
import pytest

from mask2former.tracks.scores import QueryScores, best_tracks, mask_iou, soft_nms


def test_soft_nms_takes_the_best_that_is_left():
    """0.9 lowers 0.8 to 0.16, so that 0.5 comes next and lowers that once more."""
    iou = np.array([[1, 0.8, 0], [0.8, 1, 0.6], [0, 0.6, 1]])
    factors = soft_nms(np.array([0.9, 0.8, 0.5]), iou, 0.5)
    np.testing.assert_allclose(factors, np.array([1, 0.2 * 0.4, 1]))
    order = np.array([2, 0, 1])
    shuffled = soft_nms(np.array([0.9, 0.8, 0.5])[order], iou[order][:, order], 0.5)
    np.testing.assert_allclose(shuffled, factors[order])


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_iou_out_of_range(value):
    with pytest.raises(ValueError, match=r"VIDEO_DUPLICATE_IOU: expected an IoU in 0..1.*got"):
        QueryScores(duplicate_iou=value)


def test_weights_by_hand():
    """The second overlaps the first with IoU 2/3, above 0.5 and not above 0.7."""
    probs = np.array([[0.8, 0.1], [0.2, 0.6]])
    quality, iou = np.array([0.5, 1.0]), np.array([[1, 2 / 3], [2 / 3, 1]])
    assert QueryScores().weigh(probs, quality, iou) is probs
    np.testing.assert_allclose(
        QueryScores(mask_quality=True).weigh(probs, quality, iou), [[0.4, 0.05], [0.2, 0.6]]
    )
    np.testing.assert_allclose(
        QueryScores(duplicate_iou=0.5).weigh(probs, quality, iou), [[0.8, 0.1], [0.2 / 3, 0.2]]
    )
    # The better one of the two is the second, once quality counts.
    np.testing.assert_allclose(
        QueryScores(True, 0.5).weigh(probs, quality, iou), [[0.4 / 3, 0.05 / 3], [0.2, 0.6]]
    )
    assert QueryScores(duplicate_iou=0.7).weigh(probs, quality, iou).tolist() == probs.tolist()


def test_best_tracks_first_and_masks_once():
    made = []
    result = best_tracks((2, 3), np.array([[0.1, 0.9], [0.5, 0.6]]), lambda i: made.append(i) or i)
    assert result["image_size"] == (2, 3)
    assert result["pred_scores"] == [0.9, 0.6, 0.5, 0.1]
    assert result["pred_labels"] == [1, 1, 0, 0]
    assert result["pred_masks"] == [0, 1, 1, 0]
    assert made == [0, 1]
    assert len(best_tracks((2, 3), np.arange(45).reshape(9, 5), lambda i: i)["pred_scores"]) == 10


def test_iou_of_none():
    masks = np.zeros((2, 3, 4), bool)
    assert mask_iou(masks[:0], masks).shape == (0, 2)
    assert mask_iou(masks, masks).tolist() == [[0, 0]] * 2
