"""Bipartite matching of queries and targets, for images and clips, over all layers at once.

Source: Mask2Former, Cheng et al. 2022, section 3.3; DETR, Carion et al. 2020, section 3.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..ops.assignment import assign
from ..ops.point_sampling import look_up_masks, random_points, sample_maps, sample_masks
from .losses import pairwise_mask_costs

Pairs = list[tuple[Tensor, Tensor]]


class HungarianMatcher(nn.Module):
    """Assigns each target the query that costs least, over classes and masks.

    The cost of a pair is cost_mask * BCE + cost_class * (-class probability) + cost_dice * dice,
    with the mask terms over the same uniform points for all pairs of an image. A clip's frames
    share the points, and its cost is over all frames.

    Args:
        cost_class, cost_mask, cost_dice: weights; not all zero.
        num_points: points a mask is compared at.

    Raises:
        ValueError: all weights are zero.
    """

    def __init__(
        self,
        cost_class: float = 1.0,
        cost_mask: float = 1.0,
        cost_dice: float = 1.0,
        num_points: int = 12544,
    ):
        super().__init__()
        if cost_class == cost_mask == cost_dice == 0:
            raise ValueError("HungarianMatcher: the three cost weights must not all be 0.")
        self.cost_class = cost_class
        self.cost_mask = cost_mask
        self.cost_dice = cost_dice
        self.num_points = num_points

    def forward(self, outputs: dict[str, Tensor], targets: Sequence[dict[str, Tensor]]) -> Pairs:
        """Match one layer's predictions; see `match_layers`."""
        return self.match_layers([outputs], targets)[0]

    @torch.no_grad()
    def match_layers(
        self, layers: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]]
    ) -> list[Pairs]:
        """Match the predictions of several layers with the same targets.

        All layers see the same points (the published code draws new ones for each), which leaves
        every layer's cost as it is on average and reads the targets once.

        Args:
            layers: dicts of `pred_logits` (B, Q, K+1) and `pred_masks` (B, Q, H, W), for clips
                (B, Q, T, H, W).
            targets: one dict an image or clip: `labels` (N,), int64; `masks` (N, H', W'), for
                clips (N, T, H', W'), over the same canvas as the predictions, at any resolution;
                optional `ignore` (H', W') or (T, H', W'), True where a pixel does not count;
                optional `seed`, which fixes the points.

        Returns:
            for every layer and image the chosen queries and their targets, two int64 tensors of
            min(Q, N) entries on the CPU.
        """
        costs = []
        for b, target in enumerate(targets):
            logits = torch.stack([x["pred_logits"][b] for x in layers]).float()
            masks = torch.stack([x["pred_masks"][b] for x in layers]).float()
            costs.append(self._costs(logits, masks, target))
        # costs[image][layer] -> one assignment each, in the order of layers
        flat = [costs[b][i] for i in range(len(layers)) for b in range(len(targets))]
        pairs = assign(flat)
        n = len(targets)
        return [pairs[i * n : (i + 1) * n] for i in range(len(layers))]

    def _costs(self, logits: Tensor, masks: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Costs (layers, Q, N) of one image's queries in all layers."""
        num_layers, num_queries = logits.shape[:2]
        num_targets = len(target["labels"])
        if num_targets == 0:
            return logits.new_zeros(num_layers, num_queries, 0)
        with torch.autocast(logits.device.type, enabled=False):
            return self._pair_costs(logits, masks, target)

    def _pair_costs(self, logits: Tensor, masks: Tensor, target: dict[str, Tensor]) -> Tensor:
        seeds = [target["seed"]] if "seed" in target else None
        points = random_points(1, self.num_points, masks.device, seeds)[0]
        size = masks.shape[-2:]
        queries = logits.shape[0] * logits.shape[1]
        # A clip's frames follow each other along the points.
        point_logits = sample_maps(masks.reshape(-1, *size), points).view(queries, -1)
        point_targets = sample_masks(target["masks"].flatten(0, -3), points)
        point_targets = point_targets.view(len(target["labels"]), -1)
        keep = None
        if "ignore" in target:
            ignore = target["ignore"].reshape(-1, *target["ignore"].shape[-2:])
            keep = (~look_up_masks(ignore, points)).float().flatten()
        bce, dice = pairwise_mask_costs(point_logits, point_targets, keep)
        mask_cost = (self.cost_mask * bce + self.cost_dice * dice).unflatten(0, logits.shape[:2])
        return mask_cost - self.cost_class * logits.softmax(-1)[..., target["labels"]]

    def extra_repr(self) -> str:
        return (
            f"cost_class={self.cost_class}, cost_mask={self.cost_mask}, "
            f"cost_dice={self.cost_dice}, num_points={self.num_points}"
        )
