"""Masks that a `MaskClassifier` names: what the exported model takes of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import UserError
from ..resizing import Canvas, Size

_CERTAIN = 200.0  # so far that a sigmoid or softmax in float32 is 0 or 1


class GivenMasks:
    """The masks of one image.

    Args:
        masks: (N, H, W), bool.
        size: (H, W) of the image.

    Raises:
        UserError: there are none, or they are of another shape or type.
    """

    def __init__(self, masks: Any, size: Size):
        if not isinstance(masks, np.ndarray) or masks.dtype != bool or masks.shape[1:] != size:
            found = "none" if masks is None else f"{np.shape(masks)} of {np.asarray(masks).dtype}"
            raise UserError(
                f"masks: this model names masks, and expects bool masks (N, {size[0]}, {size[1]}) "
                f"of each image, got {found}"
            )
        self.masks = masks
        self.size = size

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W)."""
        return len(self.masks), *self.size

    def __getitem__(self, index: Any) -> Any:
        """Return some of the masks in this form for an array of indices; for `[:, rows]` the rows
        of all, as logits, float32."""
        if isinstance(index, np.ndarray):
            return GivenMasks(self.masks[index], self.size)
        return np.where(self.masks[index], np.float32(_CERTAIN), np.float32(-_CERTAIN))

    def at_least_one(self) -> "GivenMasks":
        """Return the masks; an empty one where there are none, as merging needs one."""
        if len(self):
            return self
        return GivenMasks(np.zeros((1, *self.size), bool), self.size)

    def class_logits(self, found: np.ndarray) -> np.ndarray:
        """Return class logits (N, K+1), at least one row, of those (N or more, K+1) of the model;
        an empty mask is no-object."""
        count = max(1, len(self))
        logits = np.array(found[:count], np.float32)
        empty = np.ones(count, bool)
        empty[: len(self)] = ~self.masks.any((1, 2))
        logits[empty] = -_CERTAIN
        logits[empty, -1] = _CERTAIN
        return logits


def coverage_of(given: Sequence[GivenMasks], canvases: Sequence[Canvas]) -> np.ndarray:
    """Return the fraction (B, N, H, W), float32, of each pixel of the canvas that each mask covers;
    N is the maximum over the images, and at least 1."""
    count = max(1, *map(len, given))
    coverage = np.zeros((len(given), count, *canvases[0].padded), np.float32)
    for target, masks, canvas in zip(coverage, given, canvases):
        height, width = canvas.image
        rows = _mean_weights(masks.shape[1], height)
        columns = _mean_weights(masks.shape[2], width)
        for mask, area in zip(masks.masks, target):
            area[:height, :width] = rows @ mask.astype(np.float32) @ columns.T
    return coverage


def _mean_weights(old: int, new: int) -> np.ndarray:
    """Return the weights (new, old) of torch's mode "area": means of the pixels touched."""
    places = np.arange(new)
    first, last = places * old // new, -(-(places + 1) * old // new)
    source = np.arange(old)
    weights = (source >= first[:, None]) & (source < last[:, None])
    return weights.astype(np.float32) / (last - first).astype(np.float32)[:, None]
