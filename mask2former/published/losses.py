"""Mask losses and matching costs with the published arguments, for criteria of others."""

import torch
from torch import Tensor

from ..modeling.criterion.losses import pairwise_mask_costs, point_losses


def dice_loss(inputs: Tensor, targets: Tensor, num_masks: float | Tensor) -> Tensor:
    """Return 1 - dice, summed over masks and divided by num_masks.

    Args:
        inputs: (N, ...), logits.
        targets: (N, ...), in 0..1, which get no gradient.
    """
    return point_losses(_rows(inputs), _rows(targets))[1].sum() / num_masks


def sigmoid_ce_loss(inputs: Tensor, targets: Tensor, num_masks: float | Tensor) -> Tensor:
    """Return binary cross-entropy, the mean of each mask, as `dice_loss` returns dice."""
    return point_losses(_rows(inputs), _rows(targets))[0].sum() / num_masks


def calculate_uncertainty(logits: Tensor) -> Tensor:
    """Return how near to zero logits (N, 1, ...) are: the higher the more uncertain.

    Raises:
        ValueError: the second axis has not one entry.
    """
    if logits.shape[1] != 1:
        raise ValueError(f"calculate_uncertainty: expected (N, 1, ...), got {tuple(logits.shape)}.")
    return -logits.abs()


def batch_dice_loss(inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the dice cost (Q, N) of all pairs of logits (Q, ...) and targets (N, ...) in 0..1."""
    return pairwise_mask_costs(_rows(inputs), _rows(targets))[1]


def batch_sigmoid_ce_loss(inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy (Q, N) of all pairs, averaged over points; see `batch_dice_loss`."""
    return pairwise_mask_costs(_rows(inputs), _rows(targets))[0]


def _rows(masks: Tensor) -> Tensor:
    """Return masks (N, ...) as (N, P), float32 at least, whatever autocast has made of them."""
    return masks.flatten(1).to(torch.promote_types(masks.dtype, torch.float32))
