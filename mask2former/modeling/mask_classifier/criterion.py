"""The only loss of a model whose masks are given: which class each mask is."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..criterion.losses import classification_loss, empty_loss

IGNORED = -100  # as a label: rows that only pad the batch


class MaskLabelCriterion(nn.Module):
    """Weighted cross-entropy of the classes of masks, at the output of every decoder layer.

    There is nothing to match: the labels come with the masks.

    Args:
        num_classes: K, without no-object.
        weight_dict: weights by loss name; a layer whose loss has no weight is not computed.
        no_object_weight: weight of the no-object class, K.
    """

    def __init__(self, num_classes: int, weight_dict: Mapping[str, float], no_object_weight: float):
        super().__init__()
        self.num_classes = num_classes
        self.weight_dict = dict(weight_dict)
        weights = torch.ones(num_classes + 1)
        weights[-1] = no_object_weight
        self.register_buffer("empty_weight", weights)

    def forward(self, outputs: dict, labels: Tensor) -> dict[str, Tensor]:
        """Compute the losses, without their weights.

        Args:
            outputs: `pred_logits` (B, N, K+1) and, optionally, `aux_outputs`.
            labels: (B, N), int64 in 0..K, K for no-object, or `IGNORED`.

        Returns:
            scalars `loss_ce`, and `loss_ce_0`, ... for the auxiliary outputs; 0 where nothing
            counts.
        """
        layers = {"loss_ce": outputs}
        for i, layer in enumerate(outputs.get("aux_outputs", [])):
            if f"loss_ce_{i}" in self.weight_dict:
                layers[f"loss_ce_{i}"] = layer
        if not (labels != IGNORED).any():  # the mean of nothing would be NaN
            return {name: empty_loss(layer["pred_logits"]) for name, layer in layers.items()}
        return {
            name: classification_loss(layer["pred_logits"], labels, self.empty_weight)
            for name, layer in layers.items()
        }
