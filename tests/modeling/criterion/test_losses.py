"""Losses and costs: values worked out by hand, gradients, pairwise forms beside those of rows."""

import math

import pytest
import torch

from mask2former.modeling.criterion.losses import (
    classification_loss,
    pairwise_mask_costs,
    point_losses,
)

LOG3 = math.log(3.0)  # sigmoid(log 3) = 3/4


def test_bce_by_hand():
    # -log(3/4) where the target is 1, -log(1/4) where it is 0.
    got, _ = point_losses(torch.tensor([[LOG3, LOG3]]), torch.tensor([[1.0, 0.0]]))
    assert got.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=1e-6)


def test_dice_by_hand():
    # Probabilities 3/4 and 1/4, targets 1 and 0: 1 - (2 * 0.75 + 1) / (1 + 1 + 1) = 1/6.
    _, got = point_losses(torch.tensor([[LOG3, -LOG3]]), torch.tensor([[1.0, 0.0]]))
    assert got.item() == pytest.approx(1 / 6, abs=1e-6)


def test_points_left_out_do_not_count():
    logits, targets = torch.tensor([[LOG3, -LOG3, 9.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    keep = torch.tensor([[1.0, 1.0, 0.0]])
    got = point_losses(logits, targets, keep)
    torch.testing.assert_close(got, point_losses(logits[:, :2], targets[:, :2]))
    bce, dice = point_losses(logits, targets, torch.zeros(1, 3))
    assert bce.item() == dice.item() == 0


@pytest.mark.parametrize("masked", [False, True])
def test_gradients(masked):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, generator=generator, dtype=torch.float64) * 3
    targets = torch.rand(3, 7, generator=generator, dtype=torch.float64)
    keep = (torch.rand(3, 7, generator=generator) > 0.4).double() if masked else None
    assert torch.autograd.gradcheck(
        lambda x: point_losses(x, targets, keep), logits.requires_grad_()
    )


def test_logits_far_from_zero():
    """The cross-entropy of a wrong logit is its size, and nothing overflows."""
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    bce, dice = point_losses(logits, torch.tensor([[1.0, 0.0]]))
    assert bce.item() == pytest.approx(200.0)
    (bce + dice).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 0.5]]))


@pytest.mark.parametrize("masked", [False, True])
def test_pairwise_costs_equal_the_losses_of_every_pair(masked):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 9, generator=generator) * 3
    targets = torch.rand(3, 9, generator=generator)
    keep = (torch.rand(9, generator=generator) > 0.4).float() if masked else None
    bce, dice = pairwise_mask_costs(logits, targets, keep)
    for q in range(4):
        for n in range(3):
            row = (logits[q : q + 1], targets[n : n + 1], None if keep is None else keep[None])
            expected = torch.cat(point_losses(*row))
            torch.testing.assert_close(torch.stack([bce[q, n], dice[q, n]]), expected)


def test_classification_is_divided_by_the_weights():
    # Two queries with uniform logits over 3 classes: each costs log 3, whatever the weights.
    labels = torch.tensor([[0, 2]])
    weights = torch.tensor([1.0, 1.0, 0.1])
    got = classification_loss(torch.zeros(1, 2, 3), labels, weights)
    assert got.item() == pytest.approx(LOG3, abs=1e-6)
    # The first query certain and right, the second (weight 0.1) uniform: 0.1 log 3 / 1.1.
    logits = torch.tensor([[[50.0, 0, 0], [0, 0, 0]]])
    got = classification_loss(logits, labels, weights)
    assert got.item() == pytest.approx(0.1 * LOG3 / 1.1, abs=1e-6)


def test_costs_of_many_undecided_points_by_hand():
    """A product of all their probabilities would be less than float32 can hold."""
    bce, _ = pairwise_mask_costs(torch.zeros(1, 512), torch.zeros(1, 512))
    assert bce.item() == pytest.approx(math.log(2))
