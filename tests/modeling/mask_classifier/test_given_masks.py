"""Given masks: their loss and their coverage, values worked out by hand, invariants, edges."""

import math

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from mask2former.modeling.mask_classifier.given_masks import (
    IGNORED,
    MaskLabelCriterion,
    mask_coverage,
)
from mask2former.ops.masks import cells_inside
from tests.modeling.mask_classifier.small import rectangles


def criterion(*names: str) -> MaskLabelCriterion:
    return MaskLabelCriterion(2, dict.fromkeys(names, 1.0), no_object_weight=0.5)


def test_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]]))
    losses = criterion("loss_ce")({"pred_logits": logits}, torch.tensor([[0, 2]]))
    expected = (1.0 * -math.log(0.5) + 0.5 * -math.log(0.6)) / 1.5
    assert set(losses) == {"loss_ce"}
    torch.testing.assert_close(losses["loss_ce"], torch.tensor(expected))


def test_rows_that_fill_up_the_batch_do_not_count():
    logits = torch.randn(2, 3, 3)
    labels = torch.tensor([[0, 1, 2], [1, IGNORED, IGNORED]])
    once = criterion("loss_ce")({"pred_logits": logits}, labels)["loss_ce"]
    logits = logits.clone()
    logits[1, 1:] = 50 * torch.randn(2, 3)
    assert torch.equal(criterion("loss_ce")({"pred_logits": logits}, labels)["loss_ce"], once)


def test_a_layer_without_weight_is_left_out():
    layers = [{"pred_logits": torch.randn(1, 2, 3)} for _ in range(3)]
    outputs = {**layers[0], "aux_outputs": layers[1:]}
    labels = torch.tensor([[0, 1]])
    assert set(criterion("loss_ce", "loss_ce_1")(outputs, labels)) == {"loss_ce", "loss_ce_1"}


def test_nothing_to_learn_is_zero_with_a_gradient():
    logits = torch.randn(1, 2, 3, requires_grad=True)
    losses = criterion("loss_ce")({"pred_logits": logits}, torch.full((1, 2), IGNORED))
    assert losses["loss_ce"].item() == 0
    losses["loss_ce"].backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_coverage_by_hand():
    masks = rectangles((0, 0, 4, 4), (2, 0, 6, 2), size=(8, 8))
    coverage = mask_coverage(masks, (8, 8), (8, 8), (2, 2))
    expected = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.25, 0.25], [0.0, 0.0]]])
    torch.testing.assert_close(coverage, expected)


def test_the_image_lies_at_the_upper_left_of_the_canvas():
    masks = rectangles((0, 0, 4, 4), size=(4, 4))
    coverage = mask_coverage(masks, (4, 4), (4, 8), (1, 2))
    torch.testing.assert_close(coverage, torch.tensor([[[1.0, 0.0]]]))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_resolution_of_the_mask_does_not_matter(factor: int):
    masks = rectangles((1, 2, 5, 7), (0, 0, 8, 3), size=(8, 8))
    larger = masks.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    plain = mask_coverage(masks, (8, 8), (16, 8), (4, 2))
    torch.testing.assert_close(mask_coverage(larger, (8, 8), (16, 8), (4, 2)), plain)


def test_one_pixel_of_a_large_mask_is_not_lost():
    masks = rectangles((70, 33, 71, 34), size=(100, 100))
    coverage = mask_coverage(masks, (25, 25), (32, 32), (1, 1))
    assert 0 < coverage.item() < 1e-3
    assert cells_inside(coverage.flatten(1)).all()


def test_total_area_is_kept_by_every_level():
    masks = rectangles((3, 5, 29, 17), size=(32, 32))
    fine = mask_coverage(masks, (32, 32), (32, 32), (8, 8))
    for size in ((4, 4), (2, 2), (1, 1)):
        coarse = adaptive_avg_pool2d(fine, size)
        share = coarse.sum() / (size[0] * size[1])
        assert share.item() == pytest.approx(26 * 12 / 32**2)


def test_no_masks():
    none = torch.zeros(0, 8, 8, dtype=torch.bool)
    assert mask_coverage(none, (8, 8), (8, 8), (2, 2)).shape == (0, 2, 2)
