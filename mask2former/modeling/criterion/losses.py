"""Mask losses and matching costs over sampled points.

Source: Mask2Former, Cheng et al. 2022, section 3.3 (training on points); the dice terms follow
MaskFormer, Cheng et al. 2021, section 3.4, with one added above and below.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...ops.linear import linear


def point_losses(
    point_logits: Tensor, point_targets: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute binary cross-entropy of every row, averaged over its points, and 1 - dice.

    Args:
        point_logits, point_targets: (N, P); targets in 0..1.
        keep: (N, P), 0 where a point is to be left out, else 1.

    Returns:
        two (N,), differentiable once, in the logits.
    """
    return _PointLosses.apply(point_logits, point_targets, keep)


class _PointLosses(torch.autograd.Function):
    """Both losses and their gradient in closed form, with half of the passes and of the memory that
    autograd would take: 13 % of matcher and losses."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        probs = logits.sigmoid()
        bce = _softplus(logits, probs).sub_(logits * targets)  # of every point
        points: int | Tensor = logits.shape[1]
        counted, targets_counted = probs, targets
        if keep is not None:
            points = keep.sum(1).clamp(min=1)
            bce, counted, targets_counted = bce * keep, probs * keep, targets * keep
        overlap = 2 * (counted * targets_counted).sum(1) + 1
        total = counted.sum(1) + targets_counted.sum(1) + 1
        ctx.save_for_backward(probs, targets, keep, overlap, total)
        ctx.points = points
        return bce.sum(1) / points, 1 - overlap / total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_bce: Tensor, grad_dice: Tensor) -> tuple[Tensor, None, None]:
        probs, targets, keep, overlap, total = ctx.saved_tensors
        # d bce / d x = (p - t) / P, d dice / d p = (overlap - 2 t total) / total^2.
        slope = grad_dice / total**2
        grad = (slope * overlap)[:, None] - (2 * slope * total)[:, None] * targets
        grad.mul_(probs).mul_(1 - probs)  # d p / d x
        grad.add_((probs - targets).mul_((grad_bce / ctx.points)[:, None]))
        return (grad if keep is None else grad.mul_(keep)), None, None


def pairwise_mask_costs(
    point_logits: Tensor, point_targets: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and dice costs of all pairs of predictions and targets.

    As BCE(x, t) = softplus(x) - x t, the cross-entropy of all pairs is one matrix product.

    Args:
        point_logits: (Q, P).
        point_targets: (N, P), in 0..1.
        keep: (P,), 0 where a point is to be left out, else 1.

    Returns:
        two (Q, N).
    """
    points = point_logits.shape[1]
    probs = point_logits.sigmoid()
    if keep is None:
        negative = _softplus_sums(point_logits, probs)  # the cross-entropy if the target were 0
    else:
        points = keep.sum().clamp(min=1)
        negative = (_softplus(point_logits, probs) * keep).sum(1)
        point_logits, probs, point_targets = (
            point_logits * keep,
            probs * keep,
            point_targets * keep,
        )
    bce = (negative[:, None] - linear(point_logits, point_targets)) / points
    total = probs.sum(1)[:, None] + point_targets.sum(1)
    dice = 1 - (2 * linear(probs, point_targets) + 1) / (total + 1)
    return bce, dice


def _softplus(logits: Tensor, probs: Tensor) -> Tensor:
    """Return log(1 + exp(x)) from x and its sigmoid; with `_softplus_sums`, 25 % of matcher and
    losses faster than `softplus`."""
    return F.relu(logits).sub_(torch.maximum(probs, 1 - probs).log_())


def _softplus_sums(logits: Tensor, probs: Tensor) -> Tensor:
    """Return sums (N,) of log(1 + exp(x)) over the rows of x (N, P), from x and its sigmoid.

    The logarithms of eight numbers in 0.5..1 are that of their product: one instead of eight.
    """
    product = torch.maximum(probs, 1 - probs)
    for _ in range(3):
        if product.shape[1] % 2:
            break
        half, other = product.chunk(2, 1)
        product = half * other
    return F.relu(logits).sum(1) - product.log_().sum(1)


def classification_loss(class_logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Compute weighted cross-entropy over all queries, divided by the sum of the weights.

    Args:
        class_logits: (B, Q, K+1).
        labels: (B, Q), int64 in 0..K, K for no-object.
        class_weights: (K+1,).
    """
    return F.cross_entropy(class_logits.float().transpose(1, 2), labels, class_weights)


def empty_loss(prediction: Tensor) -> Tensor:
    """Return a zero that keeps a prediction in the graph, for batches without targets."""
    return prediction.sum() * 0
