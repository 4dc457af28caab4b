"""Small facts about masks: boxes and resizing."""

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (N, H, W) bilinearly to (N, *size); the corners of pixels are not aligned."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes of masks.

    Args:
        masks: (N, H, W), bool.

    Returns:
        (N, 4), float32, (x0, y0, x1, y1) in pixels with x1 and y1 one past the last pixel; zeros
        where a mask is empty.
    """
    starts_ends = []
    for axis in (1, 2):  # any over rows gives columns, and the reverse
        line = masks.any(axis)
        length = line.shape[1]
        first = line.int().argmax(1) if length else line.new_zeros(len(line), dtype=torch.long)
        last = length - line.flip(1).int().argmax(1) if length else first
        starts_ends.append((first, last))
    (x0, x1), (y0, y1) = starts_ends
    boxes = torch.stack([x0, y0, x1, y1], 1).float()
    return boxes * masks.flatten(1).any(1)[:, None]
