"""Given masks instead of predicted ones: their loss, coverage of feature maps, and merging."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ..criterion.losses import classification_loss, empty_loss

IGNORED = -100  # as a label: rows that only pad the batch
# So far that a sigmoid or softmax in float32 is 0 or 1.
_CERTAIN = 200.0


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
        self._total: Tensor | None = None

    @contextmanager
    def divided_by(self, labels: Sequence[Tensor]) -> Iterator[None]:
        """Divide losses by the weights of all labels of a step, of which the batches are parts."""
        weights = self.empty_weight
        self._total = torch.stack([weights[x.to(weights.device)].sum() for x in labels]).sum()
        try:
            yield
        finally:
            self._total = None

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
            name: classification_loss(layer["pred_logits"], labels, self.empty_weight, self._total)
            for name, layer in layers.items()
        }


def mask_coverage(
    masks: Tensor, image: tuple[int, int], padded: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Return the fraction of each cell of a feature map that each mask covers.

    Args:
        masks: (N, h, w), bool, over the image, at any resolution.
        image: (H, W) of the image on the canvas, at its upper left.
        padded: (H, W) of the canvas, which feature maps cover.
        size: (H, W) of the feature map.

    Returns:
        (N, *size), float32 in 0..1. A mask with a pixel has a cell above 0, however small it is.
    """
    if len(masks) == 0:
        return torch.zeros(0, *size, device=masks.device)
    areas = F.interpolate(masks.float()[None], size=image, mode="area")
    areas = F.pad(areas, (0, padded[1] - image[1], 0, padded[0] - image[0]))
    return F.adaptive_avg_pool2d(areas[0], size)


class AsLogits:
    """Binary masks as mask logits, computed for the rows that are read.

    Args:
        masks: (N, H, W), bool, or anything that returns bool masks for a tensor of indices.
        device: of the logits.
    """

    def __init__(self, masks: Any, device: torch.device):
        self._masks = masks
        self.shape = tuple(masks.shape)
        self.device = device

    def __getitem__(self, index: Any) -> Any:
        """Return the masks with those indices (n,), in this form; or, for `[:, rows]`, the logits
        (N, rows, W), float32, of all."""
        if isinstance(index, Tensor):
            return AsLogits(self._masks[index.cpu()], self.device)
        if not isinstance(self._masks, Tensor):  # all are wanted, block after block
            self._masks = self._masks[torch.arange(len(self._masks))]
        return (self._masks[index].to(self.device).float() - 0.5) * (2 * _CERTAIN)


def check_masks(masks: Any, size: tuple[int, int], x: dict) -> None:
    """Compare the size of masks with that of their image.

    Args:
        masks: with a shape.
        size: (H, W) that they must have.
        x: the input that they belong to, for the error.

    Raises:
        UserError: another shape or type.
    """
    shape = tuple(masks.shape)
    dtype = getattr(masks, "dtype", torch.bool)
    if len(shape) == 3 and shape[1:] == tuple(size) and dtype == torch.bool:
        return
    raise UserError(
        f"{x.get('file_name', 'MaskClassifier')}: expected bool masks of shape (N, {size[0]}, "
        f"{size[1]}) (height, width), got {shape} of {dtype}. Masks must be of the size of the "
        "image that they are for; resize them, or check that they belong to it."
    )


def no_object(count: int, num_logits: int, device: torch.device) -> Tensor:
    """Return class logits (count, K+1) of masks that are no-object with probability 1."""
    logits = torch.full((count, num_logits), -_CERTAIN, device=device)
    logits[:, -1] = _CERTAIN
    return logits


def discount(class_logits: Tensor, scores: Tensor) -> Tensor:
    """Multiply class probabilities by the scores of the masks; the rest goes to no-object.

    Args:
        class_logits: (N, K+1).
        scores: (N,), in 0..1.

    Returns:
        (N, K+1), log-probabilities.

    Raises:
        ValueError: another number of scores, or scores out of range.
    """
    if scores.shape != (len(class_logits),) or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(
            f"mask_scores: expected {len(class_logits)} numbers in 0 to 1, one a mask, got "
            f"{scores}."
        )
    probs = class_logits.softmax(-1)
    kept = probs[:, :-1] * scores[:, None]
    rest = 1 - kept.sum(1, keepdim=True)
    return torch.cat([kept, rest], 1).clamp(min=0).log().clamp(min=-_CERTAIN)
