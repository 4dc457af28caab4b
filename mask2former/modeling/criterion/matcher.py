"""Bipartite matching of queries and targets, for images and clips, over all layers at once.

Source: Mask2Former, Cheng et al. 2022, section 3.3; DETR, Carion et al. 2020, section 3.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...config.arguments import checks_names
from ...errors import UserError
from ...ops.assignment import Pairs, assign
from ...ops.point_sampling import look_up_masks, random_points, sample_maps, sample_masks
from ...overrides import replaceable
from .losses import pairwise_mask_costs


class HungarianMatcher(nn.Module):
    """Assign each target the query that costs least, over classes and masks.

    The cost of a pair is cost_mask * BCE + cost_class * (-class probability) + cost_dice * dice,
    with the mask terms over the same uniform points for all pairs of an image. A clip's frames
    share the points, and its cost is over all frames.

    Args:
        cost_class, cost_mask, cost_dice: weights; not all zero.
        num_points: points a mask is compared at.

    Raises:
        UserError: all weights are zero.
    """

    @checks_names
    def __init__(
        self,
        cost_class: float = 1.0,
        cost_mask: float = 1.0,
        cost_dice: float = 1.0,
        num_points: int = 12544,
    ):
        super().__init__()
        if cost_class == cost_mask == cost_dice == 0:
            raise UserError("HungarianMatcher: the three cost weights must not all be 0.")
        self.cost_class = cost_class
        self.cost_mask = cost_mask
        self.cost_dice = cost_dice
        self.num_points = num_points

    @replaceable
    def forward(self, outputs: dict[str, Tensor], targets: Sequence[dict[str, Tensor]]) -> Pairs:
        """Match the predictions of one layer.

        Args:
            outputs: `pred_logits` (B, Q, K+1) and `pred_masks`, as a layer of `match_layers`.
            targets: as for `match_layers`.

        Returns:
            for every image, the indices of queries and of their targets, (n,) each.
        """
        return self.memory_efficient_forward(outputs, targets)

    @replaceable
    def memory_efficient_forward(
        self, outputs: dict[str, Tensor], targets: Sequence[dict[str, Tensor]]
    ) -> Pairs:
        """Do what `forward` does; a subclass may replace either."""
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
            logits = [layer["pred_logits"][b] for layer in layers]
            masks = [layer["pred_masks"][b] for layer in layers]
            costs.append(self._costs(logits, masks, target))
        # costs[image][layer] -> one assignment each, in the order of layers
        flat = [costs[b][i] for i in range(len(layers)) for b in range(len(targets))]
        pairs = assign(flat)
        n = len(targets)
        return [pairs[i * n : (i + 1) * n] for i in range(len(layers))]

    def _costs(
        self, logits: Sequence[Tensor], masks: Sequence[Tensor], target: dict[str, Tensor]
    ) -> Tensor:
        """Compute the costs (layers, Q, N) of one image's queries in all layers.

        Args:
            logits: of every layer, (Q, K+1).
            masks: of every layer, (Q, H, W) or (Q, T, H, W).
            target: of the image.
        """
        num_targets = len(target["labels"])
        if num_targets == 0:
            return torch.zeros(len(logits), len(logits[0]), 0, device=logits[0].device)
        with torch.autocast(logits[0].device.type, enabled=False):
            seeds = [target["seed"]] if "seed" in target else None
            points = random_points(1, self.num_points, masks[0].device, seeds)[0]
            # A clip's frames follow each other along the points.
            sampled = sample_masks(target["masks"].flatten(0, -3), points).view(num_targets, -1)
            keep = None
            if "ignore" in target:
                ignore = target["ignore"].reshape(-1, *target["ignore"].shape[-2:])
                keep = (~look_up_masks(ignore, points)).float().flatten()
            # Layer by layer, since what one needs stays in the cache of a CPU.
            costs = []
            for x, maps in zip(logits, masks):
                point_logits = sample_maps(maps.float().flatten(0, -3), points)
                if len(point_logits) != len(x):  # several frames
                    point_logits = point_logits.reshape(len(x), -1)
                bce, dice = pairwise_mask_costs(point_logits, sampled, keep)
                class_cost = -x.float().softmax(-1)[:, target["labels"]]
                costs.append(
                    self.cost_mask * bce + self.cost_class * class_cost + self.cost_dice * dice
                )
            return torch.stack(costs)

    def extra_repr(self) -> str:
        return (
            f"cost_class={self.cost_class}, cost_mask={self.cost_mask}, "
            f"cost_dice={self.cost_dice}, num_points={self.num_points}"
        )
