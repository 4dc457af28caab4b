"""The best class of every pixel: that of the scores, without their memory."""

import math

import pytest
import torch

from mask2former.errors import UserError
from mask2former.modeling.postprocessing import canvas
from mask2former.modeling.postprocessing.canvas import Canvas
from mask2former.modeling.postprocessing.mergers import merge_masks
from mask2former.modeling.postprocessing.semantic import LabelMerger, SemanticMerger, best_classes
from mask2former.modeling.postprocessing.switches import switched
from tests.modeling.small import NUM_CLASSES, tiny_model

CANVAS = Canvas(padded=(64, 96), image=(50, 90), output=(71, 83))


def queries(count=7, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    class_logits = 3 * torch.randn(count, classes + 1, generator=generator)
    return class_logits, 4 * torch.randn(count, 16, 24, generator=generator)


def merged(merger, mask_logits):
    merge_masks(mask_logits, CANVAS, [merger])
    return merger.result()


@pytest.mark.parametrize("factors", [torch.float32, torch.bfloat16])
def test_labels_are_the_best_of_the_scores(factors):
    class_logits, mask_logits = queries()
    scores = merged(SemanticMerger(class_logits, CANVAS.output, factors), mask_logits)
    labels = merged(LabelMerger(class_logits, CANVAS.output, factors), mask_logits)
    assert labels.dtype == torch.int32
    assert len(labels.unique()) > 1
    best = scores.gather(0, labels[None].long())[0]
    torch.testing.assert_close(best, scores.amax(0), rtol=0, atol=0)


def sharp_queries(classes=150):
    """Of 12 queries 4 are sure of a class, and 8 that there is none; one of these has 0.06 of a
    class of its own, and is alone in two rows of the masks."""
    class_logits, mask_logits = queries(12, classes)
    class_logits[:4, torch.tensor([3, 90, 41, 149])] += 12
    class_logits[4:, -1] += 12
    class_logits[4] = -30
    class_logits[4, -1], class_logits[4, 77] = 0, math.log(0.06 / 0.94)
    mask_logits[:, 4:6] = -20
    mask_logits[4, 4:6] = 20
    return class_logits, mask_logits


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("factors", [torch.float32, torch.bfloat16])
def test_likely_classes_give_the_labels_of_all(factors, resized, monkeypatch):
    class_logits, mask_logits = sharp_queries()
    monkeypatch.setattr(canvas, "_PIXELS_PER_BLOCK", {"cpu": 2**16})
    few = LabelMerger(class_logits, CANVAS.output, factors)
    assert 4 <= len(few.likely) < 20
    every = LabelMerger(class_logits, CANVAS.output, factors)
    every.likely = None
    for merger in (few, every):
        if resized:
            merger.add_resized(mask_logits, CANVAS)
        else:
            merge_masks(mask_logits, CANVAS, [merger])
    labels = every.result()
    assert 77 not in few.likely
    assert 0.05 < (labels == 77).float().mean() < 0.5
    differ = few.result() != labels
    # Products of other shapes add in another order, which decides between equal scores alone.
    assert differ.float().mean() < (0.001 if factors is torch.float32 else 0.02)


def test_a_class_below_the_likely_ones_wins_where_they_are_not():
    """Query 0 is sure of class 5, on the left; query 1 has 0.05 of class 7, everywhere."""
    probs = torch.full((2, 41), 1e-6)
    probs[0, 5], probs[1, 7], probs[1, 40] = 1.0, 0.05, 0.95
    merger = LabelMerger(probs.log(), (1, 2))
    assert merger.likely.tolist() == [5]
    merge_masks(torch.tensor([[[9.0, -99.0]], [[9.0, 9.0]]]), Canvas(*[(1, 2)] * 3), [merger])
    assert merger.result().tolist() == [[5, 7]]


@pytest.mark.parametrize("where", ["pixel", "query"])
def test_nothing_finite_among_many_classes_is_no_class(where):
    class_logits, mask_logits = sharp_queries()
    if where == "pixel":
        mask_logits[2, 3, 5] = math.nan
    else:
        class_logits[2] = math.nan
    labels = merged(LabelMerger(class_logits, CANVAS.output), mask_logits)
    assert (labels == -1).any()
    assert (labels == -1).all() == (where == "query")


@pytest.mark.parametrize("classes", [1, 3, 255, 256, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_of_equal_classes_is_the_best(classes, dtype):
    scores = torch.rand(classes, 5, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores = torch.cat([scores, scores])  # every best comes twice
    expected = scores.float().numpy().argmax(0)  # NumPy's is the first
    assert torch.equal(best_classes(scores), torch.from_numpy(expected).int())


def test_two_pixels_by_hand():
    """Query 0 is of class 1 and on the left, query 1 of class 0 and on the right."""
    class_logits = torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]])
    mask_logits = torch.tensor([[[9.0, -9.0]], [[-9.0, 9.0]]])
    merger = LabelMerger(class_logits, (1, 2))
    merge_masks(mask_logits, Canvas((1, 2), (1, 2), (1, 2)), [merger])
    assert merger.result().tolist() == [[1, 0]]


@pytest.mark.parametrize("pixels", [1, 2000, 10**7])
def test_resized_scores_row_by_row_are_those_resized_as_a_whole(monkeypatch, pixels):
    class_logits, mask_logits = queries()
    merger = SemanticMerger(class_logits, CANVAS.padded)
    whole = Canvas(CANVAS.padded, CANVAS.padded, CANVAS.padded)
    merge_masks(mask_logits, whole, [merger])
    resize = torch.nn.functional.interpolate
    scores = resize(CANVAS.crop(merger.result())[None], CANVAS.output, mode="bilinear")[0]
    monkeypatch.setattr(canvas, "_PIXELS_PER_BLOCK", {"cpu": pixels})
    labels = LabelMerger(class_logits, CANVAS.output)
    labels.add_resized(mask_logits, CANVAS)
    best = scores.gather(0, labels.result()[None].long())[0]
    torch.testing.assert_close(best, scores.amax(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_without_a_finite_score_have_no_class(value):
    class_logits, mask_logits = queries()
    class_logits[0, 0] = value
    assert (merged(LabelMerger(class_logits, CANVAS.output), mask_logits) == -1).all()


IMAGE = torch.arange(3 * 40 * 56).reshape(3, 40, 56).remainder(251).to(torch.uint8)


@torch.no_grad()
@pytest.mark.parametrize("before", [True, False], ids=["masks-resized", "scores-resized"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_gives_labels_of_its_scores(before, precision):
    others = {"panoptic_on": False, "instance_on": False, "precision": precision}
    model = tiny_model(sem_seg_postprocess_before_inference=before, **others).eval()
    x = [{"image": IMAGE, "height": 61, "width": 47}]
    scores = model(x)[0]["sem_seg"].float()
    model.semantic_output = "labels"
    labels = model(x)[0]["sem_seg"]
    assert labels.shape == (61, 47)
    best = scores.gather(0, labels[None].long())[0]
    tolerance = 1e-5 if precision == "fp32" else 2e-2  # scores are rounded before they are resized
    torch.testing.assert_close(best, scores.amax(0), rtol=tolerance, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("before", [True, False])
def test_scores_of_a_subclass_are_called_and_reduced(before):
    others = {"panoptic_on": False, "instance_on": False}
    model = tiny_model(sem_seg_postprocess_before_inference=before, **others).eval()
    shown = torch.zeros(NUM_CLASSES, 1, 1)
    shown[2] = 1
    model.semantic_inference = lambda mask_cls, mask_pred: shown.expand(-1, *mask_pred.shape[1:])
    with switched(model, semantic_output="labels"):
        assert (model([{"image": IMAGE}])[0]["sem_seg"] == 2).all()
    assert model([{"image": IMAGE}])[0]["sem_seg"].shape == (NUM_CLASSES, 40, 56)


def test_the_published_method_gives_scores_whatever_the_switch():
    model = tiny_model().eval()
    class_logits, mask_logits = queries(classes=NUM_CLASSES)
    with switched(model, semantic_output="labels"):
        assert model.semantic_inference(class_logits, mask_logits).shape == (NUM_CLASSES, 16, 24)


def test_another_output_is_refused():
    with pytest.raises(UserError, match=r"SEMANTIC_OUTPUT is 'probs'; .* scores, labels"):
        tiny_model(semantic_output="probs")


def test_switches_come_back_after_an_error_and_unknown_ones_are_left_out():
    model = tiny_model()
    with pytest.raises(KeyError), switched(model, semantic_output="labels", no_switch=1):
        assert model.semantic_output == "labels"
        assert not hasattr(model, "no_switch")
        raise KeyError
    assert model.semantic_output == "scores"
