"""Merging: the results of the models' own mergers on random logits, and cases by hand."""

import numpy as np
import pytest
import torch

from mask2former.modeling.postprocessing import mergers as torch_mergers
from mask2former.modeling.postprocessing.canvas import Canvas as TorchCanvas
from mask2former.ops.masks import resize
from mask2former.runtime.postprocessing.merging import (
    InstanceMerger,
    PanopticMerger,
    SemanticMerger,
    merge_masks,
    merge_then_resize,
    sigmoid,
)
from mask2former.runtime.resizing import Canvas

QUERIES, CLASSES = 15, 12
IS_THING = np.arange(CLASSES) < 7
SIZES = [
    ((64, 96), (50, 91), (201, 150)),
    ((64, 96), (64, 96), (40, 60)),
    ((64, 96), (60, 80), (900, 700)),
]


def logits(seed: int, certain: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Class and mask logits of queries whose masks are blobs that overlap."""
    random = np.random.default_rng(seed)
    classes = random.normal(0, certain, (QUERIES, CLASSES + 1)).astype(np.float32)
    coarse = torch.from_numpy(random.normal(-6, 8, (QUERIES, 4, 6)).astype(np.float32))
    return classes, resize(coarse, (16, 24)).numpy()


def both(seed: int, sizes, ours, theirs):
    """Return what a merger of ours and one of torch's make of the same logits."""
    classes, masks = logits(seed)
    mine, other = ours(classes, sizes[2]), theirs(torch.from_numpy(classes), sizes[2])
    merge_masks(masks, Canvas(*sizes), [mine])
    torch_mergers.merge_masks(torch.from_numpy(masks), TorchCanvas(*sizes), [other])
    return mine.result(), other.result()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("thresholds", [(0.5, 0.3), (0.0, 0.1), (0.6, 0.5)])
def test_panoptic(seed, sizes, thresholds):
    (ids, segments), (true_ids, true_segments) = both(
        seed,
        sizes,
        lambda classes, size: PanopticMerger(classes, size, IS_THING, *thresholds),
        lambda classes, size: torch_mergers.PanopticMerger(
            classes, size, torch.from_numpy(IS_THING), *thresholds
        ),
    )
    assert segments == true_segments != []
    assert (ids != true_ids.numpy()).mean() < 1e-5  # where two queries tie, rounding decides
    assert ids.dtype == np.int32


@pytest.mark.parametrize("sizes", SIZES)
def test_semantic(sizes):
    scores, expected = both(
        0,
        sizes,
        lambda *x: SemanticMerger(*x, keep_scores=True),
        torch_mergers.SemanticMerger,
    )
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    labels, _ = both(0, sizes, SemanticMerger, torch_mergers.SemanticMerger)
    assert (labels != expected.argmax(0).numpy()).mean() < 1e-4
    labels, _ = both(
        0, sizes, lambda *x: SemanticMerger(*x, label_threshold=0.4), torch_mergers.SemanticMerger
    )
    unsure = (expected.amax(0) < 0.4 * expected.sum(0)).numpy()
    assert ((labels == -1) != unsure).mean() < 1e-4 and 0.1 < unsure.mean() < 0.9


@pytest.mark.parametrize("sizes", SIZES)
def test_semantic_scores_that_are_merged_before_they_are_resized(sizes):
    classes, masks = logits(0)
    merger = SemanticMerger(classes, sizes[2], keep_scores=True)
    merge_then_resize(masks, Canvas(*sizes), merger)
    probs = torch.from_numpy(classes).softmax(-1)[:, :-1]
    maps = resize(torch.from_numpy(masks), sizes[0]).sigmoid()
    scores = torch.einsum("qk,qhw->khw", probs, maps)
    expected = resize(scores[:, : sizes[1][0], : sizes[1][1]], sizes[2])
    np.testing.assert_allclose(merger.result(), expected, atol=2e-5)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("is_thing", [None, IS_THING])
@pytest.mark.parametrize("topk", [10, 1000])
def test_instances(sizes, is_thing, topk):
    known = None if is_thing is None else torch.from_numpy(is_thing)
    found, expected = both(
        1,
        sizes,
        lambda *x: InstanceMerger(*x, topk, is_thing),
        lambda *x: torch_mergers.InstanceMerger(*x, topk, known),
    )
    order = expected.scores.argsort(descending=True, stable=True)
    expected, found = expected[order], found[np.argsort(-found.scores, kind="stable")]
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
    sure = found.scores > 1e-3  # of equal scores the order may differ
    np.testing.assert_array_equal(found.pred_classes[sure], expected.pred_classes[sure])
    np.testing.assert_array_equal(found.pred_boxes[sure], expected.pred_boxes.tensor[sure])
    np.testing.assert_array_equal(found.pred_masks[sure], expected.pred_masks[sure])


def test_scores_that_are_no_numbers_have_no_label():
    classes, masks = logits(0)
    masks[3] = np.nan
    merger = SemanticMerger(classes, (32, 48))
    merge_masks(masks, Canvas((64, 96), (64, 96), (32, 48)), [merger])
    assert (merger.result() == -1).all()


def test_nothing_is_found():
    classes = np.full((3, 5), -9, np.float32)
    classes[:, -1] = 9
    mergers = [
        PanopticMerger(classes, (4, 6), np.ones(4, bool), 0.8, 0.8),
        InstanceMerger(classes, (4, 6), 10, np.zeros(4, bool)),
    ]
    merge_masks(np.ones((3, 2, 2), np.float32), Canvas((8, 8), (8, 8), (4, 6)), mergers)
    ids, segments = mergers[0].result()
    assert ids.shape == (4, 6) and not ids.any() and segments == []
    assert len(mergers[1].result()) == 0 and mergers[1].result().pred_masks.shape == (0, 4, 6)


def test_probabilities_of_far_logits():
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 0, 1e4], np.float32)), [0, 0.5, 1])
