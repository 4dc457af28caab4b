"""The rows of the mask losses: every matched target in every frame, in the order of targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...ops.point_sampling import look_up_masks, sample_masks
from .matcher import Pairs


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
        """Line up the targets with the rows that `matched_rows` gives of every layer."""
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
    """Return pairs of one image in the order of their targets."""
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
