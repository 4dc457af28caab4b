"""Mask losses and matching costs over sampled points, and the rows of the mask losses.

Source: Mask2Former, Cheng et al. 2022, section 3.3 (training on points); the dice terms follow
MaskFormer, Cheng et al. 2021, section 3.4, with one added above and below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...ops.assignment import Pairs
from ...ops.point_sampling import look_up_masks, sample_masks


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
    bce = (negative[:, None] - point_logits @ point_targets.T) / points
    total = probs.sum(1)[:, None] + point_targets.sum(1)
    dice = 1 - (2 * (probs @ point_targets.T) + 1) / (total + 1)
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


def classification_loss(
    class_logits: Tensor, labels: Tensor, class_weights: Tensor, total: Tensor | None = None
) -> Tensor:
    """Compute weighted cross-entropy over all queries, divided by the sum of the weights.

    Args:
        class_logits: (B, Q, K+1).
        labels: (B, Q), int64 in 0..K, K for no-object.
        class_weights: (K+1,).
        total: to divide by instead, where the batch is a part of a step.
    """
    logits = class_logits.float().transpose(1, 2)
    if total is None:
        return F.cross_entropy(logits, labels, class_weights)
    return F.cross_entropy(logits, labels, class_weights, reduction="sum") / total


def empty_loss(prediction: Tensor) -> Tensor:
    """Return a zero () that keeps a prediction of any shape in the graph, without targets."""
    return prediction.sum() * 0


@dataclass
class Rows:
    """What belongs to each row, the mask of a matched target in one frame, of all images.

    Attributes:
        masks: (M, H, W), the target masks of all images and frames.
        mask_index: (R, L), row of `masks` in every layer.
        same_targets: whether a row has the same target in all layers: so where no image has more
            targets than there are queries.
        ignore: (B*T, H, W), pixels that do not count, of all images and frames, or None.
        ignore_index: (R,), row of `ignore`.
        seeds: R integers that fix the points, or None.
    """

    masks: Tensor
    mask_index: Tensor
    same_targets: bool
    ignore: Tensor | None
    ignore_index: Tensor
    seeds: list[int] | None

    @classmethod
    def of(cls, matches: Sequence[Pairs], targets: Sequence[dict[str, Tensor]]) -> "Rows":
        """Line up the targets with the rows that `matched_rows` gives of every layer.

        Args:
            matches: for each of L layers, the pairs of every image.
            targets: as for `HungarianMatcher.match_layers`.
        """
        frames = targets[0]["masks"].shape[1] if targets[0]["masks"].dim() == 4 else 1
        frame = torch.arange(frames)
        mask_index, ignore_index, seeds, start = [], [], [], 0
        for b, target in enumerate(targets):
            chosen = torch.stack([pairs[b][1] for pairs in matches], 1)  # (pairs, L)
            rows = (start + chosen)[:, None] * frames + frame[:, None]
            mask_index.append(rows.flatten(0, 1))
            ignore_index.append((b * frames + frame).repeat(len(chosen)))
            # An image's rows have seeds that other images of the batch do not change.
            first = int(target.get("seed", 0)) * 2**24
            seeds.extend(range(first, first + len(chosen) * frames))
            start += len(target["labels"])
        index = torch.cat(mask_index)
        device = targets[0]["masks"].device
        return cls(
            masks=torch.cat([_as_rows(t["masks"]) for t in targets]),
            mask_index=index.to(device),
            same_targets=bool((index == index[:, :1]).all()),
            ignore=_ignored(targets, frames),
            ignore_index=torch.cat(ignore_index).to(device),
            seeds=seeds if "seed" in targets[0] else None,
        )

    def sample_targets(self, chunk: slice, drawn: Tensor, chosen: Tensor, points: Tensor) -> Tensor:
        """Return the target masks of some rows at their points, (r * L, P).

        Args:
            drawn: (r, P', 2), the points that all layers chose from.
            chosen: (r, L, P), indices of those chosen.
            points: (r, L, P, 2), the same as points.
        """
        index = self.mask_index[chunk]
        if not self.same_targets:
            return sample_masks(self.masks, points.flatten(0, 1), index.flatten())
        sampled = sample_masks(self.masks, drawn, index[:, 0])[:, None]
        return sampled.expand(-1, chosen.shape[1], -1).gather(2, chosen).flatten(0, 1)

    def sample_counted(self, chunk: slice, points: Tensor) -> Tensor | None:
        """Return 1 where a point counts and 0 where it is to be ignored, (r * L, P); None: all
        count."""
        if self.ignore is None:
            return None
        ignored = look_up_masks(self.ignore, points.flatten(1, 2), self.ignore_index[chunk])
        return (~ignored).float().view(-1, points.shape[2])


def by_target(queries: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs of one image, query and target (n,) each, in the order of the targets."""
    order = chosen.argsort()
    return queries[order], chosen[order]


def _ignored(targets: Sequence[dict[str, Tensor]], frames: int) -> Tensor | None:
    """Return pixels that do not count (B*T, H, W); None where every image counts in full."""
    if not any("ignore" in target for target in targets):
        return None
    size = targets[0]["masks"].shape[-2:]
    nowhere = torch.zeros(frames, *size, dtype=torch.bool, device=targets[0]["masks"].device)
    return torch.cat([_as_rows(target.get("ignore", nowhere)) for target in targets])


def _as_rows(masks: Tensor) -> Tensor:
    """Return any leading axes as one, (..., H, W) to (R, H, W)."""
    return masks.reshape(-1, *masks.shape[-2:])


def matched_rows(layer: dict[str, Tensor], pairs: Pairs) -> Tensor:
    """Return mask logits of the matched queries of all images, (pairs * T, H, W)."""
    masks = layer["pred_masks"]
    # One selection for all images, as each has a gradient of the size of all masks.
    chosen = torch.cat([b * masks.shape[1] + queries for b, (queries, _) in enumerate(pairs)])
    return _as_rows(masks.flatten(0, 1).index_select(0, chosen.to(masks.device))).float()


def images_and_indices(indices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return which image each index is of, and the indices of all images, two (n,)."""
    images = [torch.full_like(index, b) for b, index in enumerate(indices)]
    return torch.cat(images), torch.cat(list(indices))
