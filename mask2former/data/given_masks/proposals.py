"""Masks to train a classifier of masks on: of objects, of not quite those, and of nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...errors import UserError
from ..targets import Targets

# How far a jittered mask may go from the object, in fractions of the object's size.
_SHIFT, _SCALE, _SWELL, _CUT = 0.1, 0.12, 0.08, 0.25
_COARSE_SIDE = (12, 40)  # cells along the longer side of a coarsened mask


@dataclass(frozen=True)
class ProposalSampler:
    """Draw masks and their classes for an image in training.

    Attributes:
        jittered: changed copies of each object.
        made_up: regions that are no object, for each object.
        min_iou: with an object, for its class, in 0..1.
        max_masks: of an image.

    Raises:
        UserError: an attribute out of range.
    """

    jittered: int = 1
    made_up: float = 0.5
    min_iou: float = 0.5
    max_masks: int = 64

    def __post_init__(self) -> None:
        if min(self.jittered, self.made_up) < 0 or not 0 < self.min_iou <= 1 or self.max_masks < 1:
            raise UserError(
                "INPUT.MASK_PROPOSALS: expected JITTERED and MADE_UP of 0 or more, IOU_THRESHOLD "
                f"above 0 to 1 and MAX_MASKS of 1 or more, got {self.jittered}, {self.made_up}, "
                f"{self.min_iou} and {self.max_masks}"
            )

    def sample(
        self, targets: Targets, more: np.ndarray, num_classes: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the masks of one image with numpy's global generator, as detectron2 does.

        Args:
            targets: the N objects.
            more: (P, H, W), bool, masks from elsewhere.
            num_classes: K, which stands for no-object.

        Returns:
            masks (M, H, W), bool, none of them empty, objects first; and classes (M,), int64 in
            0..K. All but the objects' own are decided by IoU.
        """
        objects = targets.select(targets.masks.any(axis=(1, 2)))
        count = int(self.made_up * len(objects.masks) + _uniform(0, 1))
        drawn = [jitter(mask) for mask in objects.masks for _ in range(self.jittered)]
        drawn += [made_up_region(objects.masks) for _ in range(count if len(objects.masks) else 0)]
        others = np.concatenate([np.array(drawn, bool).reshape(-1, *more.shape[1:]), more])
        others = others[others.any(axis=(1, 2))]
        room = max(self.max_masks - len(objects.masks), 0)
        if len(others) > room:
            others = others[_shuffled(len(others))[:room]]
        classes = match_masks(others, objects, num_classes, self.min_iou)
        masks = np.concatenate([objects.masks, others])[: self.max_masks]
        classes = np.concatenate([objects.classes, classes]).astype(np.int64)
        return masks, classes[: self.max_masks]


def match_masks(
    masks: np.ndarray, objects: Targets, num_classes: int, min_iou: float
) -> np.ndarray:
    """Give each mask the class of the object that it overlaps most, or no-object.

    Args:
        masks: (P, H, W), bool.
        objects: of the same image.
        num_classes: K, the class of masks whose best IoU is below it.
        min_iou: in 0..1.

    Returns:
        (P,), int64.
    """
    classes = np.full(len(masks), num_classes, np.int64)
    areas = objects.masks.sum(axis=(1, 2))
    if not len(areas):
        return classes
    for i, mask in enumerate(masks):
        window = box_window(mask)
        inside = mask[window]
        common = (objects.masks[(slice(None), *window)] & inside).sum(axis=(1, 2))
        ious = common / np.maximum(areas + inside.sum() - common, 1)
        best = int(ious.argmax())
        if ious[best] >= min_iou:
            classes[i] = objects.classes[best]
    return classes


def jitter(mask: np.ndarray) -> np.ndarray:
    """Change a mask (H, W), bool, a little, as segmenters do: one or two of moving it, swelling or
    shrinking it, drawing it coarsely and cutting off a side."""
    window = box_window(mask, margin=0.3)
    part = mask[window].astype(np.uint8)
    for index in _shuffled(len(_CHANGES))[: 1 + _integer(2)]:
        part = _CHANGES[index](part)
    changed = np.zeros_like(mask)
    changed[window] = part.view(bool)
    return changed


def made_up_region(masks: np.ndarray) -> np.ndarray:
    """Draw a region (H, W), bool, that is mostly no object.

    It is two objects as one, a smaller part of one, or an ellipse anywhere.

    Args:
        masks: (N, H, W), bool, of one object or more, none empty.
    """
    kind = _integer(3)
    one = masks[_integer(len(masks))]
    if kind == 0 and len(masks) > 1:
        return one | masks[_integer(len(masks))]
    if kind == 1:
        return _half_plane(one.astype(np.uint8), _uniform(0.15, 0.45)).view(bool)
    height, width = one.shape
    region = np.zeros((height, width), np.uint8)
    centre = (_integer(width), _integer(height))
    half = _uniform(0.03, 0.3, 2) * (width, height)
    axes = tuple(max(1, int(side)) for side in half)
    angle = _uniform(0, 180)
    return cv2.ellipse(region, centre, axes, angle, 0, 360, 1, cv2.FILLED).view(bool)


def box_window(mask: np.ndarray, margin: float = 0.0) -> tuple[slice, slice]:
    """Return rows and columns of the box of a mask (H, W), widened by a fraction of its sides.

    An empty mask has an empty window.
    """
    window = []
    for axis in (1, 0):
        indices = np.flatnonzero(mask.any(axis=axis))
        if not len(indices):
            return slice(0, 0), slice(0, 0)
        start, stop = int(indices[0]), int(indices[-1]) + 1
        more = math.ceil(margin * (stop - start))
        window.append(slice(max(start - more, 0), min(stop + more, mask.shape[1 - axis])))
    return window[0], window[1]


def _move(mask: np.ndarray) -> np.ndarray:
    """Shift and scale about the middle of the box."""
    rows, columns = box_window(mask > 0)
    sides = np.array([columns.stop - columns.start, rows.stop - rows.start])
    centre = np.array([columns.start, rows.start]) + (sides - 1) / 2
    scale = _uniform(1 - _SCALE, 1 + _SCALE)
    shift = _uniform(-_SHIFT, _SHIFT, 2) * sides
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = centre + shift - scale * centre
    return cv2.warpAffine(mask, matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST)


def _swell(mask: np.ndarray) -> np.ndarray:
    """Dilate or erode by a part of the object's size."""
    radius = _SWELL * math.sqrt(mask.sum()) * _uniform(0, 1)
    side = 2 * max(1, round(radius)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    change = cv2.dilate if _uniform(0, 1) < 0.5 else cv2.erode
    return change(mask, kernel)


def _coarsen(mask: np.ndarray) -> np.ndarray:
    """Draw it through a small map, which rounds corners and drops what is thin."""
    height, width = mask.shape
    factor = _uniform(*_COARSE_SIDE) / max(height, width)
    if factor >= 1:
        return mask
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    coverage = cv2.resize(mask * np.float32(1), small, interpolation=cv2.INTER_AREA)
    return (cv2.resize(coverage, (width, height)) >= 0.5).astype(np.uint8)


def _cut(mask: np.ndarray) -> np.ndarray:
    """Cut off a side."""
    return _half_plane(mask, 1 - _CUT * _uniform(0, 1))


def _half_plane(mask: np.ndarray, fraction: float) -> np.ndarray:
    """Return this fraction of a mask: its pixels on one side of a line of random direction."""
    rows, columns = np.nonzero(mask)
    kept = np.zeros_like(mask)
    if len(rows):
        angle = _uniform(0, 2 * math.pi)
        along = columns * math.cos(angle) + rows * math.sin(angle)
        within = along <= np.quantile(along, fraction)
        kept[rows[within], columns[within]] = 1
    return kept


_CHANGES: Sequence = (_move, _swell, _coarsen, _cut)


# numpy's global generator, which detectron2 seeds in each worker


def _uniform(low: float, high: float, size: int | None = None) -> Any:
    return np.random.uniform(low, high, size)  # noqa: NPY002


def _integer(below: int) -> int:
    return int(np.random.randint(below))  # noqa: NPY002


def _shuffled(count: int) -> np.ndarray:
    return np.random.permutation(count)  # noqa: NPY002
