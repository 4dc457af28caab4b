"""Tracks over windows: agreement with the whole clip, and scores and masks by hand."""

import pytest
import torch

from mask2former.modeling.postprocessing.mergers import Canvas
from mask2former.modeling.tracking.clip_tracks import MAX_OBJECTS, joined_result, track_windows
from mask2former.modeling.tracking.linking import TrackLinker
from mask2former.modeling.tracking.windows import Window, Windows
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
    result = joined_result(windows, TrackLinker())
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
    masks = joined_result(windows, TrackLinker())["pred_masks"][0]
    assert torch.equal(masks, torch.stack([mask(c) > 0 for c in (LEFT, (0, 4), LEFT)]))


def test_a_window_without_the_object_adds_nothing():
    """A query goes on with its mask, although its object is gone: its class says so."""
    windows = [
        window(0, 0, ((0.8, 0.1), [LEFT, LEFT])),
        window(1, 1, ((0.1, 0.05), [LEFT, LEFT])),
    ]
    masks = joined_result(windows, TrackLinker())["pred_masks"][0]
    assert masks.flatten(1).any(1).tolist() == [True, True, False]


def test_an_object_that_comes_later_starts_then():
    windows = [
        window(0, 0, ((0.8, 0.1), [LEFT, LEFT]), ((0.01, 0.01), [None, None])),
        window(1, 1, ((0.8, 0.1), [LEFT, LEFT]), ((0.1, 0.7), [None, RIGHT])),
    ]
    result = joined_result(windows, TrackLinker())
    best = max(
        (i for i, label in enumerate(result["pred_labels"]) if label == 1),
        key=lambda i: result["pred_scores"][i],
    )
    assert result["pred_scores"][best] == pytest.approx(0.7)
    assert result["pred_masks"][best].flatten(1).any(1).tolist() == [False, False, True]


def test_only_the_best_queries_are_followed():
    many = [((0.001 * i + 0.001, 0.0005), [LEFT]) for i in range(MAX_OBJECTS + 5)]
    (tracked,) = track_windows([window(0, 0, *many)], TrackLinker())
    assert tracked.queries.tolist() == list(range(5, MAX_OBJECTS + 5))
    (few,) = track_windows([window(0, 0, *many)], TrackLinker(), max_objects=2)
    assert len(few.tracks) == 2


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
