"""Losses and costs: values worked out by hand, agreement between the pairwise and row forms."""

import math

import pytest
import torch

from mask2former.modeling.losses import (
    classification_loss,
    pairwise_mask_costs,
    point_bce,
    point_dice,
)

LOG3 = math.log(3.0)  # sigmoid(log 3) = 3/4


def test_bce_by_hand():
    # -log(3/4) where the target is 1, -log(1/4) where it is 0.
    got = point_bce(torch.tensor([[LOG3, LOG3]]), torch.tensor([[1.0, 0.0]]))
    assert got.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=1e-6)


def test_dice_by_hand():
    # Probabilities 3/4 and 1/4, targets 1 and 0: 1 - (2 * 0.75 + 1) / (1 + 1 + 1) = 1/6.
    got = point_dice(torch.tensor([[LOG3, -LOG3]]), torch.tensor([[1.0, 0.0]]))
    assert got.item() == pytest.approx(1 / 6, abs=1e-6)


def test_points_left_out_do_not_count():
    logits, targets = torch.tensor([[LOG3, -LOG3, 9.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    keep = torch.tensor([[1.0, 1.0, 0.0]])
    for loss in (point_bce, point_dice):
        torch.testing.assert_close(loss(logits, targets, keep), loss(logits[:, :2], targets[:, :2]))
    nothing = point_bce(logits, targets, torch.zeros(1, 3))
    assert nothing.item() == 0


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
            torch.testing.assert_close(bce[q, n], point_bce(*row)[0])
            torch.testing.assert_close(dice[q, n], point_dice(*row)[0])


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
