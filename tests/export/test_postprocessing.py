"""Merging in the graph against the mergers of the models, on random logits."""

import pytest
import torch

from mask2former.errors import UserError
from mask2former.export.graphs import ClipGraph, ImageGraph
from mask2former.export.postprocessing import with_postprocess
from mask2former.modeling.postprocessing.canvas import Canvas
from tests.modeling.small import tiny_model, tiny_video_model

K, Q = 3, 12


def random_logits(seed: int, batch: int = 2):
    """Class logits (B, Q, K+1) and smooth mask logits (B, Q, 8, 10)."""
    generator = torch.Generator().manual_seed(seed)
    classes = 3 * torch.randn(batch, Q, K + 1, generator=generator)
    coarse = 4 * torch.randn(batch, Q, 3, 4, generator=generator)
    return classes, torch.nn.functional.interpolate(coarse, size=(8, 10), mode="bilinear")


def results(name: str, seed: int = 0, **changes):
    """What the graph merges, and what the model does, of the same logits."""
    model = tiny_model(**changes).eval()
    graph = with_postprocess(ImageGraph(model), name)
    logits = random_logits(seed)
    canvas = Canvas(*((32, 40),) * 3)
    return graph.merge(*logits), [model.segment(c, m, canvas) for c, m in zip(*logits)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("thresholds", [(0.0, 0.0), (0.6, 0.5)])
def test_panoptic_segments_are_the_mergers(seed, thresholds):
    score, overlap = thresholds
    (ids, classes, count), expected = results(
        "panoptic", seed, object_mask_threshold=score, overlap_threshold=overlap
    )
    for i, result in enumerate(expected):
        wanted, segments = result["panoptic_seg"]
        assert torch.equal(ids[i], wanted)
        assert count[i] == len(segments)
        labels = classes[i].tolist()
        assert labels[: len(segments)] == [s["category_id"] for s in segments]
        assert labels[len(segments) :] == [-1] * (Q - len(segments))


def test_no_query_above_the_threshold_is_all_void():
    (ids, classes, count), _ = results("panoptic", object_mask_threshold=1.0)
    assert ids.unique().tolist() == [0]
    assert classes.unique().tolist() == [-1]
    assert count.tolist() == [0, 0]


@pytest.mark.parametrize("panoptic_on", [True, False])
def test_instances_are_the_mergers(panoptic_on):
    (masks, boxes, scores, classes, count), expected = results("instance", panoptic_on=panoptic_on)
    for i, result in enumerate(expected):
        wanted, n = result["instances"], int(count[i])
        assert n == len(wanted) <= len(scores[i])
        assert classes[i, n:].tolist() == [-1] * (len(scores[i]) - n)
        ours = sorted(range(n), key=lambda j: -scores[i, j])
        theirs = wanted.scores.argsort(descending=True)
        torch.testing.assert_close(scores[i, ours], wanted.scores[theirs])
        assert torch.equal(classes[i, ours].long(), wanted.pred_classes[theirs])
        assert torch.equal(masks[i, ours].bool(), wanted.pred_masks[theirs])
        assert torch.equal(boxes[i, ours], wanted.pred_boxes.tensor[theirs])


def test_class_map_is_the_best_semantic_score():
    (classes,), expected = results("semantic")
    for i, result in enumerate(expected):
        assert torch.equal(classes[i].long(), result["sem_seg"].argmax(0))


def test_unknown_and_unfit_kinds_are_refused():
    with pytest.raises(ValueError, match="one of semantic, panoptic, instance, got 'boxes'"):
        with_postprocess(ImageGraph(tiny_model().eval()), "boxes")
    with pytest.raises(ValueError, match="VideoMaskFormer .* kind clip; leave out"):
        with_postprocess(ClipGraph(tiny_video_model().eval()), "panoptic")
    graph = ImageGraph(tiny_model().eval())
    assert with_postprocess(graph, "") is graph


@pytest.mark.parametrize(("kind", "panoptic_on"), [("panoptic", False), ("instance", True)])
def test_unknown_things_are_refused_before_a_trace(kind, panoptic_on):
    model = tiny_model(panoptic_on=panoptic_on).eval()
    model.metadata = None
    with pytest.raises(UserError, match="which classes are things"):
        with_postprocess(ImageGraph(model), kind)
    model.panoptic_on = False
    assert with_postprocess(ImageGraph(model), "instance").name == "instance"
