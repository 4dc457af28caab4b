"""The losses of queries that were shown their targets, and so need no matching.

Source: MP-Former, Zhang et al. 2023, section 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .losses import Rows, by_target, empty_loss, images_and_indices, matched_rows
from .points import RowLosses


def pilot_losses(
    layers: Sequence[dict[str, Tensor]],
    chosen: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    num_masks: Tensor | float,
    row_losses: RowLosses,
) -> dict[str, Tensor]:
    """Compute the losses of pilots, added up over decoder layers.

    An image's pilots count as much as its targets, however many of them there are.

    Args:
        layers: `pred_logits` (B, P, K+1) and `pred_masks` (B, P, H, W) or (B, P, T, H, W) of each.
        chosen: of every image, the targets (P,) of its pilots, on the CPU; (0,) without targets.
        targets: as for `HungarianMatcher.match_layers`.
        num_masks: what losses are divided by: the targets of a process, at least 1.
        row_losses: those of `SetCriterion`.

    Returns:
        scalars `loss_ce_pilot`, `loss_mask_pilot`, `loss_dice_pilot`.
    """
    pairs = [by_target(torch.arange(len(index)), index) for index in chosen]
    images, pilots = images_and_indices([queries for queries, _ in pairs])
    if len(images) == 0:
        keys = {"ce": "pred_logits", "mask": "pred_masks", "dice": "pred_masks"}
        return {
            f"loss_{name}_pilot": torch.stack([empty_loss(x[key]) for x in layers]).sum()
            for name, key in keys.items()
        }
    device = layers[0]["pred_logits"].device
    shares = torch.tensor([len(t["labels"]) / max(len(c), 1) for t, c in zip(targets, chosen)])
    weights = shares[images].to(device)
    labels = torch.cat([t["labels"][c.to(device)] for t, (_, c) in zip(targets, pairs)])
    images, pilots = images.to(device), pilots.to(device)
    of_classes = [
        F.cross_entropy(layer["pred_logits"][images, pilots].float(), labels, reduction="none")
        for layer in layers
    ]
    rows = [matched_rows(layer, pairs) for layer in layers]
    bce, dice = row_losses(rows, Rows.of([pairs] * len(layers), targets))  # (n * T, L)
    by_row = weights.repeat_interleave(len(bce) // len(weights))
    return {
        "loss_ce_pilot": (torch.stack(of_classes).sum(0) * weights).sum() / num_masks,
        "loss_mask_pilot": (bce.sum(1) * by_row).sum() / num_masks,
        "loss_dice_pilot": (dice.sum(1) * by_row).sum() / num_masks,
    }
