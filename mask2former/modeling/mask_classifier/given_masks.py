"""Given masks instead of predicted ones: checks, and the form that the mergers take."""

from typing import Any

import torch
from torch import Tensor

# So far that a sigmoid or softmax in float32 is 0 or 1.
_CERTAIN = 200.0


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
        ValueError: another shape or type.
    """
    shape = tuple(masks.shape)
    dtype = getattr(masks, "dtype", torch.bool)
    if len(shape) == 3 and shape[1:] == tuple(size) and dtype == torch.bool:
        return
    raise ValueError(
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
            f"{tuple(scores.shape)} in {scores.min():.3g} to {scores.max():.3g}."
            if scores.numel()
            else f"mask_scores: expected {len(class_logits)} numbers, got none."
        )
    probs = class_logits.softmax(-1)
    kept = probs[:, :-1] * scores[:, None]
    rest = 1 - kept.sum(1, keepdim=True)
    return torch.cat([kept, rest], 1).clamp(min=0).log().clamp(min=-_CERTAIN)
