"""The training loss of mask classification, for images and clips.

Source: Mask2Former, Cheng et al. 2022, section 3.3 and appendix (losses on points).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...config.arguments import checks_names
from ...errors import UserError
from ...layers.linear import is_watched
from ...ops.assignment import Pairs
from ...overrides import is_replaced, replaceable
from .losses import (
    Rows,
    by_target,
    classification_loss,
    empty_loss,
    images_and_indices,
    matched_rows,
)
from .matcher import HungarianMatcher
from .pilot import pilot_losses
from .points import RowLosses
from .totals import StepTotals, mean_masks

_OWN_LOSSES = {"labels", "masks"}

Outputs = dict[str, Any]  # of tensors, but for `aux_outputs` and `pilots`
Targets = Sequence[dict[str, Tensor]]


class SetCriterion(nn.Module):
    """Match predictions with targets and add up classification, mask and dice losses.

    A subclass may replace any method, and add losses: "name" in `losses` is computed by a method
    `loss_name`. Every layer is then matched and every loss computed by itself, as published; else
    all layers pass together, with the same result.

    Args:
        num_classes: K, without no-object.
        matcher: assigns queries to targets: a `HungarianMatcher`, or what else maps outputs and
            targets to the indices of queries and of targets, for each image two tensors (n,).
        weight_dict: weights by loss name; a layer whose losses have no weight is not computed.
        eos_coef: weight of the no-object class.
        losses: what to compute, of "labels", "masks" and those of a subclass.
        num_points: points a mask loss is taken at.
        oversample_ratio: candidates drawn for each point.
        importance_sample_ratio: fraction of the points that are the most uncertain candidates.

    Raises:
        UserError: losses without a method, or ratios out of range.
    """

    @checks_names
    def __init__(
        self,
        num_classes: int,
        matcher: Callable[[Outputs, Targets], Pairs],
        weight_dict: dict[str, float],
        eos_coef: float,
        losses: Sequence[str],
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
    ):
        super().__init__()
        unknown = [name for name in losses if not callable(getattr(self, f"loss_{name}", None))]
        if unknown and not is_replaced(self, "get_loss"):
            raise UserError(
                f'{type(self).__name__}: losses are "labels" and "masks", got {sorted(unknown)}: a '
                "loss of your own needs a method loss_NAME, or a get_loss that knows it."
            )
        if oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
            raise UserError(
                "SetCriterion: oversample_ratio must be at least 1 and importance_sample_ratio in "
                f"0..1, got {oversample_ratio} and {importance_sample_ratio}."
            )
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = weight_dict
        self.eos_coef = eos_coef
        self.losses = list(losses)
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        weights = torch.ones(num_classes + 1)
        weights[-1] = eos_coef
        self.register_buffer("empty_weight", weights)
        self._totals: StepTotals | None = None

    @contextmanager
    def divided_by(self, totals: StepTotals) -> Iterator[None]:
        """Divide losses by the targets of a whole step, of which the batches are parts."""
        self._totals = totals
        try:
            yield
        finally:
            self._totals = None

    def forward(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Compute all losses, without their weights.

        Args:
            outputs: `pred_logits` (B, Q, K+1), `pred_masks` (B, Q, H, W) or (B, Q, T, H, W), and
                optionally `aux_outputs`, a list of dicts with these two, and `pilots`.
            targets: as for `HungarianMatcher.match_layers`.

        Returns:
            scalars `loss_ce`, `loss_mask`, `loss_dice`, and the same with `_0`, `_1`, ... for the
            auxiliary outputs. Mask losses are divided by the number of targets in all processes;
            those of a clip are summed over its frames. Those of pilots are `loss_ce_pilot`, ...
        """
        layers = {"": outputs}
        for i, layer in enumerate(outputs.get("aux_outputs", [])):
            if any(name.endswith(f"_{i}") for name in self.weight_dict):  # deep supervision is on
                layers[f"_{i}"] = layer
        counts, device = [len(target["labels"]) for target in targets], self.empty_weight.device
        num_masks = mean_masks(counts, device) if self._totals is None else self._totals.masks
        if self._has_replaced_parts():
            losses = self._layer_by_layer(layers, targets, num_masks)
        else:
            losses = self._layers_together(layers, targets, num_masks)
        if "pilots" in outputs:
            supervised = outputs["pilots"].predictions[-1 if len(layers) == 1 else 0 :]
            chosen = outputs["pilots"].chosen
            losses |= pilot_losses(supervised, chosen, targets, num_masks, self._row_losses())
        return losses

    def _layers_together(
        self, layers: dict[str, Outputs], targets: Targets, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        matches = self.matcher.match_layers(list(layers.values()), targets)
        losses: dict[str, Tensor] = {}
        if "labels" in self.losses:
            for (suffix, layer), pairs in zip(layers.items(), matches):
                losses[f"loss_ce{suffix}"] = self._class_loss(layer, pairs, targets)
        if "masks" in self.losses:
            losses.update(self._mask_losses(layers, matches, targets, num_masks))
        return losses

    def has_other_losses(self) -> bool:
        """Tell whether losses from elsewhere are computed, which may divide by what they like."""
        replaced = is_replaced(self, "get_loss", "loss_labels", "loss_masks")
        return replaced or not _OWN_LOSSES.issuperset(self.losses)

    def _has_replaced_parts(self) -> bool:
        """Tell whether methods from elsewhere match a layer or compute its losses."""
        matcher = self.matcher
        return (
            self.has_other_losses()
            or is_replaced(self, "_get_src_permutation_idx", "_get_tgt_permutation_idx")
            or not isinstance(matcher, HungarianMatcher)
            or is_replaced(matcher, "forward", "memory_efficient_forward")
            or is_watched(matcher)
        )

    def _layer_by_layer(
        self, layers: dict[str, Outputs], targets: Targets, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        device = layers[""]["pred_logits"].device
        devices = [device] if device.type == "cuda" else []
        num_masks = float(num_masks)
        losses: dict[str, Tensor] = {}
        for i, (suffix, layer) in enumerate(layers.items(), 1):
            # All layers draw the same random numbers, as where they pass together.
            with torch.random.fork_rng(devices, enabled=i < len(layers)):
                indices = self.matcher(layer, targets)
                for name in self.losses:
                    found = self.get_loss(name, layer, targets, indices, num_masks)
                    losses.update({key + suffix: value for key, value in found.items()})
        return losses

    @replaceable
    def get_loss(
        self, loss: str, outputs: Outputs, targets: Targets, indices: Pairs, num_masks: float
    ) -> dict[str, Tensor]:
        """Return the losses of one layer that `loss`, of `losses`, stands for, by their names.

        Args:
            loss: its name.
            outputs: of the layer.
            targets: as in `forward`.
            indices: what the matcher returns.
            num_masks: targets of a process, at least 1; mask losses are divided by it.
        """
        return getattr(self, f"loss_{loss}")(outputs, targets, indices, num_masks)

    @replaceable
    def loss_labels(
        self, outputs: Outputs, targets: Targets, indices: Pairs, num_masks: float
    ) -> dict[str, Tensor]:
        """Return `loss_ce` of one layer; the arguments are as for `get_loss`."""
        return {"loss_ce": self._class_loss(outputs, self._pairs(indices), targets)}

    @replaceable
    def loss_masks(
        self, outputs: Outputs, targets: Targets, indices: Pairs, num_masks: float
    ) -> dict[str, Tensor]:
        """Return `loss_mask` and `loss_dice` of one layer; the arguments are as for `get_loss`."""
        return self._mask_losses({"": outputs}, [self._pairs(indices)], targets, num_masks)

    def _pairs(self, indices: Pairs) -> Pairs:
        """Return the pairs of every image as the two methods below give them, on the CPU."""
        of_queries, queries = (x.cpu() for x in self._get_src_permutation_idx(indices))
        of_targets, chosen = (x.cpu() for x in self._get_tgt_permutation_idx(indices))
        return [(queries[of_queries == b], chosen[of_targets == b]) for b in range(len(indices))]

    @replaceable
    def _get_src_permutation_idx(self, indices: Pairs) -> tuple[Tensor, Tensor]:
        """Return image and query of all pairs of a batch, two (n,)."""
        return images_and_indices([queries for queries, _ in indices])

    @replaceable
    def _get_tgt_permutation_idx(self, indices: Pairs) -> tuple[Tensor, Tensor]:
        """Return image and target of all pairs of a batch, two (n,)."""
        return images_and_indices([chosen for _, chosen in indices])

    def _class_loss(self, layer: Outputs, pairs: Pairs, targets: Targets) -> Tensor:
        logits = layer["pred_logits"]
        labels = torch.full(
            logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device
        )
        for b, ((queries, chosen), target) in enumerate(zip(pairs, targets)):
            labels[b, queries.to(labels.device)] = target["labels"][chosen.to(labels.device)]
        weights = self.empty_weight
        total = self._totals and self._totals.class_weight(logits.shape[1], weights)
        return classification_loss(logits, labels, weights, total)

    def _mask_losses(
        self,
        layers: dict[str, Outputs],
        matches: Sequence[Pairs],
        targets: Targets,
        num_masks: Tensor | float,
    ) -> dict[str, Tensor]:
        """Compute mask and dice losses of layers, by suffix, whose masks are sampled together."""
        if sum(len(q) for q, _ in matches[0]) == 0:
            return {
                f"loss_{kind}{suffix}": empty_loss(layer["pred_masks"])
                for suffix, layer in layers.items()
                for kind in ("mask", "dice")
            }
        matches = [[by_target(*pair) for pair in pairs] for pairs in matches]
        logits = [matched_rows(layer, pairs) for layer, pairs in zip(layers.values(), matches)]
        bce, dice = self._row_losses()(logits, Rows.of(matches, targets))
        losses = {}
        for i, suffix in enumerate(layers):
            # Sums, not means: a clip counts every frame.
            losses[f"loss_mask{suffix}"] = bce[:, i].sum() / num_masks
            losses[f"loss_dice{suffix}"] = dice[:, i].sum() / num_masks
        return losses

    def _row_losses(self) -> RowLosses:
        return RowLosses(self.num_points, self.oversample_ratio, self.importance_sample_ratio)

    def __repr__(self) -> str:
        names = ("matcher", "losses", "weight_dict", "num_classes", "eos_coef", "num_points")
        names += ("oversample_ratio", "importance_sample_ratio")
        lines = [f"{name}: {getattr(self, name)}" for name in names]
        return "\n    ".join([f"{type(self).__name__}:", *lines])
