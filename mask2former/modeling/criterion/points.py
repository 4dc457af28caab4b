"""Mask losses of rows, each the mask of a target in one frame, at points that they choose.

Source: Mask2Former, Cheng et al. 2022, section 3.3; PointRend, Kirillov et al. 2020, section 3.1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.point_sampling import (
    random_points,
    sample_maps,
    take_points,
    uncertain_points,
    values_at,
)
from .losses import Rows, point_losses

# Masks of a frame and layer that are sampled at a time: bounds memory, not the result.
_MASKS_PER_CHUNK = 80


class RowLosses(NamedTuple):
    """Cross-entropy and dice at points.

    Attributes:
        num_points: points a mask loss is taken at.
        oversample_ratio: candidates drawn for each point.
        importance_sample_ratio: fraction of the points that are the most uncertain candidates.
    """

    num_points: int
    oversample_ratio: float
    importance_sample_ratio: float

    def __call__(self, logits: Sequence[Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
        """Compute cross-entropy and dice of every row, from its logits (R, H, W) in each of L
        layers: two (R, L)."""
        layers = len(logits)
        bce, dice = [], []
        step = max(1, _MASKS_PER_CHUNK // layers)
        for i, parts in enumerate(zip(*(layer.split(step) for layer in logits))):
            chunk = slice(i * step, i * step + step)
            part = torch.stack(parts, 1)
            drawn, chosen, values = self._choose_points(part.detach(), rows, chunk)
            points = take_points(drawn, chosen)
            point_logits = values_at(part.flatten(0, 1), points.flatten(0, 1), values.flatten(0, 1))
            targets = rows.sample_targets(chunk, drawn, chosen, points)
            keep = rows.sample_counted(chunk, points)
            for losses, new in zip((bce, dice), point_losses(point_logits, targets, keep)):
                losses.append(new.view(-1, layers))
        return torch.cat(bce), torch.cat(dice)

    @torch.no_grad()
    def _choose_points(
        self, logits: Tensor, rows: Rows, chunk: slice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose points for mask logits (R, L, H, W), mostly where they are near zero.

        The layers of a row choose from the same points (published: each draws its own), which
        leaves the loss as it is on average, draws a tenth of the numbers, and lets targets be read
        once for all layers.

        Returns:
            points drawn (R, P', 2), indices of those chosen (R, L, P), and the logits there.
        """
        num_candidates = int(self.num_points * self.oversample_ratio)
        num_uncertain = int(self.num_points * self.importance_sample_ratio)
        count = num_candidates + self.num_points - num_uncertain
        seeds = rows.seeds and rows.seeds[chunk]
        drawn = random_points(len(logits), count, logits.device, seeds)
        values = sample_maps(logits, drawn)
        chosen = uncertain_points(values, num_candidates, num_uncertain)
        return drawn, chosen, values.gather(2, chosen)
