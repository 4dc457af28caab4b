"""The training loss of mask classification, for images and clips.

Source: Mask2Former, Cheng et al. 2022, section 3.3 and appendix (losses on points).
"""

from collections.abc import Sequence

import torch
from detectron2.utils import comm
from torch import Tensor, distributed, nn

from ...ops.assignment import Pairs
from ...ops.point_sampling import (
    random_points,
    sample_maps,
    take_points,
    uncertain_points,
    values_at,
)
from .losses import (
    Rows,
    by_target,
    classification_loss,
    empty_loss,
    matched_rows,
    point_losses,
)
from .matcher import HungarianMatcher

# Masks of a frame and layer that go through point sampling at a time: bounds memory, not the
# result.
_MASKS_PER_CHUNK = 80


class SetCriterion(nn.Module):
    """Match predictions with targets and add up classification, mask and dice losses.

    Args:
        num_classes: K, without no-object.
        matcher: assigns queries to targets.
        weight_dict: weights by loss name; a layer whose losses have no weight is not computed.
        eos_coef: weight of the no-object class.
        losses: what to compute, of "labels" and "masks".
        num_points: points a mask loss is taken at.
        oversample_ratio: candidates drawn for each point.
        importance_sample_ratio: fraction of the points that are the most uncertain candidates.

    Raises:
        ValueError: unknown names in losses, or ratios out of range.
    """

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher,
        weight_dict: dict[str, float],
        eos_coef: float,
        losses: Sequence[str],
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
    ):
        super().__init__()
        unknown = set(losses) - {"labels", "masks"}
        if unknown:
            raise ValueError(
                f'SetCriterion: losses are "labels" and "masks", got {sorted(unknown)}.'
            )
        if oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
            raise ValueError(
                "SetCriterion: oversample_ratio must be at least 1 and importance_sample_ratio in "
                f"0..1, got {oversample_ratio} and {importance_sample_ratio}."
            )
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = weight_dict
        self.eos_coef = eos_coef
        self.losses = tuple(losses)
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        weights = torch.ones(num_classes + 1)
        weights[-1] = eos_coef
        self.register_buffer("empty_weight", weights)

    def forward(
        self, outputs: dict[str, Tensor], targets: Sequence[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Compute all losses, without their weights.

        Args:
            outputs: `pred_logits` (B, Q, K+1), `pred_masks` (B, Q, H, W) or (B, Q, T, H, W), and
                optionally `aux_outputs`, a list of dicts with these two.
            targets: as for `HungarianMatcher.match_layers`.

        Returns:
            scalars `loss_ce`, `loss_mask`, `loss_dice`, and the same with `_0`, `_1`, ... for the
            auxiliary outputs. Mask losses are divided by the number of targets in all processes;
            those of a clip are summed over its frames.
        """
        aux = outputs.get("aux_outputs", [])
        layers, suffixes = [outputs], [""]
        for i, layer in enumerate(aux):
            if f"loss_ce_{i}" in self.weight_dict:  # else deep supervision is off
                layers.append(layer)
                suffixes.append(f"_{i}")
        matches = self.matcher.match_layers(layers, targets)
        losses: dict[str, Tensor] = {}
        if "labels" in self.losses:
            for layer, pairs, suffix in zip(layers, matches, suffixes):
                losses[f"loss_ce{suffix}"] = self._loss_labels(layer, pairs, targets)
        if "masks" in self.losses:
            losses.update(self._loss_masks(layers, matches, suffixes, targets))
        return losses

    def _loss_labels(
        self, layer: dict[str, Tensor], pairs: Pairs, targets: Sequence[dict[str, Tensor]]
    ) -> Tensor:
        logits = layer["pred_logits"]
        labels = torch.full(
            logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device
        )
        for b, ((queries, chosen), target) in enumerate(zip(pairs, targets)):
            labels[b, queries.to(labels.device)] = target["labels"][chosen.to(labels.device)]
        return classification_loss(logits, labels, self.empty_weight)

    def _loss_masks(
        self,
        layers: Sequence[dict[str, Tensor]],
        matches: Sequence[Pairs],
        suffixes: Sequence[str],
        targets: Sequence[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Compute mask and dice losses of all layers, whose masks are sampled together."""
        num_masks = _num_masks(targets, layers[0]["pred_masks"].device)
        if sum(len(q) for q, _ in matches[0]) == 0:
            return {
                f"loss_{kind}{suffix}": empty_loss(layer["pred_masks"])
                for layer, suffix in zip(layers, suffixes)
                for kind in ("mask", "dice")
            }
        matches = [[by_target(*pair) for pair in pairs] for pairs in matches]
        logits = [matched_rows(layer, pairs) for layer, pairs in zip(layers, matches)]
        bce, dice = self._row_losses(logits, Rows.of(matches, targets))
        losses = {}
        for i, suffix in enumerate(suffixes):
            # Sums, not means: a clip counts every frame.
            losses[f"loss_mask{suffix}"] = bce[:, i].sum() / num_masks
            losses[f"loss_dice{suffix}"] = dice[:, i].sum() / num_masks
        return losses

    def _row_losses(self, logits: Sequence[Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
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

    def __repr__(self) -> str:
        lines = [
            f"matcher: {self.matcher}",
            f"losses: {self.losses}",
            f"weight_dict: {self.weight_dict}",
            f"num_classes: {self.num_classes}",
            f"eos_coef: {self.eos_coef}",
            f"num_points: {self.num_points}",
            f"oversample_ratio: {self.oversample_ratio}",
            f"importance_sample_ratio: {self.importance_sample_ratio}",
        ]
        return "\n    ".join([f"{type(self).__name__}:", *lines])


def _num_masks(targets: Sequence[dict[str, Tensor]], device: torch.device) -> Tensor:
    """Return targets per process, averaged over the processes, at least 1."""
    count = torch.tensor(sum(len(t["labels"]) for t in targets), dtype=torch.float32, device=device)
    world = comm.get_world_size()
    if world > 1:
        distributed.all_reduce(count)
    return (count / world).clamp(min=1)
