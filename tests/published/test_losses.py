"""Mask losses and costs with the published arguments: by hand, against PyTorch, gradients."""

import pytest
import torch
from torch.nn import functional as F

from mask2former.published.losses import (
    batch_dice_loss,
    batch_sigmoid_ce_loss,
    calculate_uncertainty,
    dice_loss,
    sigmoid_ce_loss,
)


def make_masks(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 4, 5, generator=generator, dtype=torch.float64)
    targets = torch.rand(count, 4, 5, generator=generator, dtype=torch.float64).round()
    return logits, targets


def dice(x, t):
    p = x.sigmoid()
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def test_losses_are_sums_over_masks():
    logits, targets = make_masks()
    logits.requires_grad_()
    expected = sum(dice(x, t) for x, t in zip(logits, targets)) / 2
    torch.testing.assert_close(dice_loss(logits, targets, 2.0), expected)
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected_ce = bce.mean((1, 2)).sum() / 2
    got = sigmoid_ce_loss(logits, targets, torch.tensor(2.0))
    torch.testing.assert_close(got, expected_ce)
    pairs = ((dice_loss(logits, targets, 2.0), expected), (got, expected_ce))
    for ours, plain in pairs:
        a, b = (torch.autograd.grad(loss, logits)[0] for loss in (ours, plain))
        torch.testing.assert_close(a, b)


def test_costs_are_the_losses_of_all_pairs():
    (logits, _), (_, targets) = make_masks(3), make_masks(2, seed=1)
    for cost, loss in ((batch_dice_loss, dice_loss), (batch_sigmoid_ce_loss, sigmoid_ce_loss)):
        pairs = [[loss(x[None], t[None], 1) for t in targets] for x in logits]
        torch.testing.assert_close(cost(logits, targets), torch.tensor(pairs, dtype=torch.float64))


def test_half_precision_is_summed_in_float32():
    logits, targets = (x.to(torch.bfloat16) for x in make_masks())
    for loss in (dice_loss, sigmoid_ce_loss, lambda x, t, n: batch_dice_loss(x, t)):
        got = loss(logits, targets.bool(), 1.0)
        torch.testing.assert_close(got, loss(logits.float(), targets.float(), 1.0))
        assert got.dtype == torch.float32


def test_uncertainty_by_hand():
    logits = torch.tensor([[[-2.0, 0.0, 1.0]]])
    assert calculate_uncertainty(logits).tolist() == [[[-2.0, 0.0, -1.0]]]
    with pytest.raises(ValueError, match=r"expected \(N, 1, ...\), got \(2, 3\)"):
        calculate_uncertainty(torch.zeros(2, 3))
