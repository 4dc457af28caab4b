"""The instances of an image, as arrays."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ...formats.rle import RLE, encode_masks


@dataclass(frozen=True)
class Instances:
    """N instances, with the names that detectron2's Instances have.

    Attributes:
        pred_masks: (N, H, W), bool.
        pred_boxes: (N, 4), float32, x0, y0, x1, y1 in pixels; x1 and y1 are one past the last.
        scores: (N,), float32, in 0..1.
        pred_classes: (N,), int64, positions in the names of the classes.
        track_ids: (N,), int64, from 1 on; None of an image.
    """

    pred_masks: np.ndarray
    pred_boxes: np.ndarray
    scores: np.ndarray
    pred_classes: np.ndarray
    track_ids: np.ndarray | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the masks."""
        return self.pred_masks.shape[1], self.pred_masks.shape[2]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> "Instances":
        """Return some instances, by a mask (N,) or by indices."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if self.has(f.name)}
        return Instances(**{name: values[index] for name, values in found.items()})

    def has(self, name: str) -> bool:
        """Tell whether there are values of this name."""
        return getattr(self, name, None) is not None

    def rles(self) -> list[RLE]:
        """Return the masks as COCO's compressed RLE, fit for json."""
        return encode_masks(self.pred_masks)


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Return tight boxes (N, 4) of masks (N, H, W), zeros where one is empty."""
    sides: list[np.ndarray] = []
    for axis in (1, 2):
        lines = np.logical_or.reduce(masks, axis)
        sides += [lines.argmax(1), lines.shape[1] - lines[:, ::-1].argmax(1)]
    x0, x1, y0, y1 = sides
    boxes = np.stack([x0, y0, x1, y1], 1) * lines.any(1)[:, None]
    return boxes.astype(np.float32)
