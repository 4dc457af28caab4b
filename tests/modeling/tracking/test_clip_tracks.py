"""Tracks over windows and scores of queries: values by hand, agreement with the whole clip."""

import numpy as np
import pytest
import torch

from mask2former.config import get_config
from mask2former.modeling.postprocessing.mergers import Canvas
from mask2former.modeling.tracking.clip_tracks import clip_result, joined_result
from mask2former.modeling.tracking.queries import score_queries
from mask2former.modeling.tracking.windows import Window
from mask2former.tracks.clips import MAX_OBJECTS, track_windows
from mask2former.tracks.scores import PUBLISHED_SCORES, QueryScores
from mask2former.tracks.windows import Windows
from tests.modeling.meta_arch.test_image import image
from tests.modeling.small import tiny_video_model

SIZE = (4, 8)
CANVAS = Canvas(SIZE, SIZE, SIZE)


def logits(*probs: float) -> list[float]:
    """Class logits of two classes and no-object."""
    return torch.tensor([*probs, 1 - sum(probs)]).log().tolist()


def mask(columns: tuple[int, int] | None) -> torch.Tensor:
    """Mask logits (4, 8), positive in a range of columns."""
    result = torch.full(SIZE, -5.0)
    if columns:
        result[:, slice(*columns)] = 5.0
    return result


def window(start: int, shared: int, *queries: tuple) -> Window:
    """Of (class probabilities, columns of each frame) for each query."""
    return Window(
        start=start,
        shared=shared,
        class_logits=torch.tensor([logits(*probs) for probs, _ in queries]),
        mask_logits=torch.stack([torch.stack([mask(c) for c in frames]) for _, frames in queries]),
        embeddings=None,
        canvas=CANVAS,
    )


LEFT, RIGHT = (0, 3), (5, 8)


def test_joined_result_by_hand():
    """Two objects swap their queries; the second is out of sight in the end."""
    windows = [
        window(0, 0, ((0.8, 0.1), [LEFT] * 3), ((0.1, 0.6), [RIGHT] * 3)),
        window(2, 1, ((0.1, 0.4), [RIGHT, None, None]), ((0.6, 0.1), [LEFT, LEFT, LEFT])),
    ]
    result = joined_result(windows)
    assert result["image_size"] == SIZE
    found = {
        label: (score, masks)
        for score, label, masks in zip(
            result["pred_scores"], result["pred_labels"], result["pred_masks"]
        )
        if score > 0.3
    }
    assert found[0][0] == pytest.approx(0.7)  # three frames each
    assert found[1][0] == pytest.approx((3 * 0.6 + 1 * 0.4) / 4)
    left, right = (mask(c) > 0 for c in (LEFT, RIGHT))
    assert torch.equal(found[0][1], torch.stack([left] * 5))
    assert torch.equal(found[1][1], torch.stack([right] * 3 + [torch.zeros_like(right)] * 2))


def test_shared_frames_are_those_of_the_first_window():
    windows = [
        window(0, 0, ((0.8, 0.1), [LEFT, (0, 4)])),
        window(1, 1, ((0.8, 0.1), [LEFT, LEFT])),
    ]
    masks = joined_result(windows)["pred_masks"][0]
    assert torch.equal(masks, torch.stack([mask(c) > 0 for c in (LEFT, (0, 4), LEFT)]))


def test_a_window_without_the_object_adds_nothing():
    """A query goes on with its mask, although its object is gone: its class says so."""
    windows = [
        window(0, 0, ((0.8, 0.1), [LEFT, LEFT])),
        window(1, 1, ((0.1, 0.05), [LEFT, LEFT])),
    ]
    masks = joined_result(windows)["pred_masks"][0]
    assert masks.flatten(1).any(1).tolist() == [True, True, False]


def test_an_object_that_comes_later_starts_then():
    windows = [
        window(0, 0, ((0.8, 0.1), [LEFT, LEFT]), ((0.01, 0.01), [None, None])),
        window(1, 1, ((0.8, 0.1), [LEFT, LEFT]), ((0.1, 0.7), [None, RIGHT])),
    ]
    result = joined_result(windows)
    best = max(
        (i for i, label in enumerate(result["pred_labels"]) if label == 1),
        key=lambda i: result["pred_scores"][i],
    )
    assert result["pred_scores"][best] == pytest.approx(0.7)
    assert result["pred_masks"][best].flatten(1).any(1).tolist() == [False, False, True]


def test_only_the_best_queries_are_followed():
    many = [((0.001 * i + 0.001, 0.0005), [LEFT]) for i in range(MAX_OBJECTS + 5)]
    (tracked,) = track_windows([window(0, 0, *many)])
    assert tracked.queries.tolist() == list(range(5, MAX_OBJECTS + 5))
    (few,) = track_windows([window(0, 0, *many[:2])])
    assert few.queries.tolist() == [0, 1]


@torch.no_grad()
def test_a_window_of_the_whole_clip_gives_the_published_result():
    model = tiny_video_model().eval()
    clip = {"image": [image(seed=t) for t in range(5)], "height": 30, "width": 50}
    published = model([clip])
    for length in (5, 7):
        model.windows = Windows(length, 3)
        result = model([clip])
        assert result["image_size"] == published["image_size"] == (30, 50)
        assert result["pred_scores"] == published["pred_scores"]
        assert result["pred_labels"] == published["pred_labels"]
        for one, other in zip(result["pred_masks"], published["pred_masks"], strict=True):
            assert torch.equal(one, other)


@torch.no_grad()
def test_windows_give_the_same_form():
    model = tiny_video_model().eval()
    model.windows = Windows(3, 1)
    result = model([{"image": [image(seed=t) for t in range(8)], "height": 30, "width": 50}])
    assert len(result["pred_scores"]) == len(result["pred_labels"]) == 10
    assert all(m.shape == (8, 30, 50) and m.dtype == torch.bool for m in result["pred_masks"])
    assert any(m.any() for m in result["pred_masks"])


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
    scores = score_queries(PUBLISHED_SCORES, CLASSES, MASKS)
    np.testing.assert_array_equal(scores, CLASSES.softmax(-1)[:, :-1])
    test = get_config().MODEL.MASK_FORMER.TEST
    assert QueryScores(test.VIDEO_MASK_QUALITY, test.VIDEO_DUPLICATE_IOU) == PUBLISHED_SCORES


def test_mask_quality_by_hand():
    """Means over the pixels inside: (0.9 + 0.9 + 0.6) / 3, 0.9 and 0.6."""
    scores = score_queries(QueryScores(mask_quality=True), CLASSES, MASKS)
    probs = torch.tensor([[0.8, 0.1], [0.2, 0.6], [0.5, 0.1]])
    expected = probs * torch.tensor([[0.8], [0.9], [0.6]])
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_duplicates_by_hand():
    """The second overlaps the first with IoU 2/3; its best class is another one."""
    scores = score_queries(QueryScores(duplicate_iou=0.5), CLASSES, MASKS)
    np.testing.assert_allclose(scores, [[0.8, 0.1], [0.2 / 3, 0.6 / 3], [0.5, 0.1]], atol=1e-6)
    kept = score_queries(QueryScores(duplicate_iou=0.7), CLASSES, MASKS)
    np.testing.assert_array_equal(kept, score_queries(PUBLISHED_SCORES, CLASSES, MASKS))


def test_no_pixel_inside():
    scores = score_queries(QueryScores(True, 0.5), CLASSES, torch.full((3, 1, 1, 2), -1.0))
    assert scores.tolist() == [[0, 0]] * 3
    assert score_queries(QueryScores(True, 0.5), CLASSES[:0], MASKS[:0]).shape == (0, 2)


def test_clips_and_windows_use_them():
    w = window(0, 0, ((0.8, 0.1), [LEFT] * 2), ((0.7, 0.1), [LEFT] * 2), ((0.6, 0.1), [RIGHT] * 2))
    scores = QueryScores(duplicate_iou=0.5)
    whole = clip_result(w.class_logits, w.mask_logits, CANVAS, scores)
    ranked = sorted(whole["pred_scores"], reverse=True)
    assert ranked[:2] == pytest.approx([0.8, 0.6])
    (tracked,) = track_windows([w], scores)
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
        joined = joined_result(windows, scores)
        expected = clip_result(whole.class_logits, whole.mask_logits, CANVAS, scores)
        found, wanted = (sorted(r["pred_scores"]) for r in (joined, expected))
        assert found == pytest.approx(wanted, abs=1e-6)
        assert found != pytest.approx(sorted([0.8, 0.7, 0.6, 0.1, 0.1, 0.1]), abs=1e-3)
