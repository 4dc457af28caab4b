"""Scores of queries by class, mask and overlap: values by hand, and the published ones."""

import pytest
import torch

from mask2former.config import get_config
from mask2former.modeling.tracking.clip_tracks import clip_result, joined_result, track_windows
from mask2former.modeling.tracking.linking import TrackLinker
from mask2former.modeling.tracking.query_scores import PUBLISHED_SCORES, QueryScores, soft_nms

from .test_clip_tracks import CANVAS, LEFT, RIGHT, logits, window

SURE, UNSURE = torch.tensor(0.9).logit(), torch.tensor(0.6).logit()
# Classes of three queries, and masks of two frames of three pixels: the second query lies on two of
# the first one's three pixels, and the third elsewhere.
CLASSES = torch.tensor([logits(0.8, 0.1), logits(0.2, 0.6), logits(0.5, 0.1)])
NOT = -torch.tensor(9.0)
MASKS = torch.tensor(
    [
        [[[SURE, SURE, NOT]], [[UNSURE, NOT, NOT]]],
        [[[SURE, NOT, NOT]], [[SURE, NOT, NOT]]],
        [[[NOT, NOT, NOT]], [[NOT, NOT, UNSURE]]],
    ]
)


def test_published_scores_are_class_probabilities():
    torch.testing.assert_close(PUBLISHED_SCORES(CLASSES, MASKS), CLASSES.softmax(-1)[:, :-1])
    test = get_config().MODEL.MASK_FORMER.TEST
    assert QueryScores(test.VIDEO_MASK_QUALITY, test.VIDEO_DUPLICATE_IOU) == PUBLISHED_SCORES


def test_mask_quality_by_hand():
    """Means over the pixels inside: (0.9 + 0.9 + 0.6) / 3, 0.9 and 0.6."""
    scores = QueryScores(mask_quality=True)(CLASSES, MASKS)
    probs = torch.tensor([[0.8, 0.1], [0.2, 0.6], [0.5, 0.1]])
    expected = probs * torch.tensor([[0.8], [0.9], [0.6]])
    torch.testing.assert_close(scores, expected)


def test_duplicates_by_hand():
    """The second overlaps the first with IoU 2/3; its best class is another one."""
    scores = QueryScores(duplicate_iou=0.5)(CLASSES, MASKS)
    torch.testing.assert_close(
        scores, torch.tensor([[0.8, 0.1], [0.2 / 3, 0.6 / 3], [0.5, 0.1]]), atol=1e-6, rtol=0
    )
    kept = QueryScores(duplicate_iou=0.7)(CLASSES, MASKS)
    torch.testing.assert_close(kept, PUBLISHED_SCORES(CLASSES, MASKS))


def test_soft_nms_takes_the_best_that_is_left():
    """0.9 lowers 0.8 to 0.16, so that 0.5 comes next and lowers that once more."""
    iou = torch.tensor([[1, 0.8, 0], [0.8, 1, 0.6], [0, 0.6, 1]])
    factors = soft_nms(torch.tensor([0.9, 0.8, 0.5]), iou, 0.5)
    torch.testing.assert_close(factors, torch.tensor([1, 0.2 * 0.4, 1]))
    order = torch.tensor([2, 0, 1])
    shuffled = soft_nms(torch.tensor([0.9, 0.8, 0.5])[order], iou[order][:, order], 0.5)
    torch.testing.assert_close(shuffled, factors[order])


def test_no_pixel_inside():
    scores = QueryScores(True, 0.5)(CLASSES, torch.full((3, 1, 1, 2), -1.0))
    assert scores.tolist() == [[0, 0]] * 3
    assert QueryScores(True, 0.5)(CLASSES[:0], MASKS[:0]).shape == (0, 2)


def test_clips_and_windows_use_them():
    w = window(0, 0, ((0.8, 0.1), [LEFT] * 2), ((0.7, 0.1), [LEFT] * 2), ((0.6, 0.1), [RIGHT] * 2))
    scores = QueryScores(duplicate_iou=0.5)
    whole = clip_result(w.class_logits, w.mask_logits, CANVAS, scores)
    ranked = sorted(whole["pred_scores"], reverse=True)
    assert ranked[:2] == pytest.approx([0.8, 0.6])
    (tracked,) = track_windows([w], TrackLinker(), query_scores=scores)
    best = [float(track.class_probs.max()) for track in tracked.tracks]
    assert best == pytest.approx([0.8, 0, 0.6], abs=1e-6)


def test_joined_windows_score_as_the_whole_clip():
    """Two windows that share a frame; a duplicate with IoU 2/3, and an object that goes away."""

    def clip(start, shared, *second):
        part = [LEFT] * 2, [(0, 2)] * 2, second
        return window(start, shared, *zip(((0.8, 0.1), (0.7, 0.1), (0.6, 0.1)), map(list, part)))

    whole = window(
        0,
        0,
        ((0.8, 0.1), [LEFT] * 3),
        ((0.7, 0.1), [(0, 2)] * 3),
        ((0.6, 0.1), [RIGHT, RIGHT, None]),
    )
    for scores in (QueryScores(True), QueryScores(duplicate_iou=0.5), QueryScores(True, 0.5)):
        windows = [clip(0, 0, RIGHT, RIGHT), clip(1, 1, RIGHT, None)]
        joined = joined_result(windows, TrackLinker(), scores)
        expected = clip_result(whole.class_logits, whole.mask_logits, CANVAS, scores)
        found, wanted = (sorted(r["pred_scores"]) for r in (joined, expected))
        assert found == pytest.approx(wanted, abs=1e-6)
        assert found != pytest.approx(sorted([0.8, 0.7, 0.6, 0.1, 0.1, 0.1]), abs=1e-3)


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_iou_out_of_range(value):
    with pytest.raises(ValueError, match=r"VIDEO_DUPLICATE_IOU: expected an IoU in 0..1.*got"):
        QueryScores(duplicate_iou=value)
