"""Mask losses and matching costs over sampled points.

Source: Mask2Former, Cheng et al. 2022, section 3.3 (training on points); the dice terms follow
MaskFormer, Cheng et al. 2021, section 3.4, with one added above and below.
"""

from torch import Tensor
from torch.nn import functional as F


def point_bce(point_logits: Tensor, point_targets: Tensor, keep: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of every row, averaged over its points.

    Args:
        point_logits, point_targets: (N, P); targets in 0..1.
        keep: (N, P), 0 where a point is to be left out, else 1.

    Returns:
        (N,).
    """
    loss = F.binary_cross_entropy_with_logits(point_logits, point_targets, reduction="none")
    if keep is None:
        return loss.mean(1)
    return (loss * keep).sum(1) / keep.sum(1).clamp(min=1)


def point_dice(point_logits: Tensor, point_targets: Tensor, keep: Tensor | None = None) -> Tensor:
    """1 - dice of every row, (N,), from (N, P) logits and targets; `keep` as in `point_bce`."""
    probs = point_logits.sigmoid()
    if keep is not None:
        probs, point_targets = probs * keep, point_targets * keep
    overlap = (probs * point_targets).sum(1)
    return 1 - (2 * overlap + 1) / (probs.sum(1) + point_targets.sum(1) + 1)


def pairwise_mask_costs(
    point_logits: Tensor, point_targets: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice costs of all pairs of predictions and targets.

    As BCE(x, t) = softplus(x) - x t, the cross-entropy of all pairs is one matrix product.

    Args:
        point_logits: (Q, P).
        point_targets: (N, P), in 0..1.
        keep: (P,), 0 where a point is to be left out, else 1.

    Returns:
        two (Q, N).
    """
    points = point_logits.shape[1]
    all_bce = F.softplus(point_logits)
    probs = point_logits.sigmoid()
    if keep is not None:
        points = keep.sum().clamp(min=1)
        point_logits, all_bce, probs = point_logits * keep, all_bce * keep, probs * keep
        point_targets = point_targets * keep
    bce = (all_bce.sum(1)[:, None] - point_logits @ point_targets.T) / points
    total = probs.sum(1)[:, None] + point_targets.sum(1)
    dice = 1 - (2 * probs @ point_targets.T + 1) / (total + 1)
    return bce, dice


def classification_loss(class_logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Weighted cross-entropy over all queries, divided by the sum of the weights.

    Args:
        class_logits: (B, Q, K+1).
        labels: (B, Q), int64 in 0..K, K for no-object.
        class_weights: (K+1,).
    """
    return F.cross_entropy(class_logits.float().transpose(1, 2), labels, class_weights)


def empty_loss(prediction: Tensor) -> Tensor:
    """A zero that keeps a prediction in the graph, for batches without targets."""
    return prediction.sum() * 0
