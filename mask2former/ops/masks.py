"""Small facts about masks: boxes, cells and resizing."""

import torch
from torch import Tensor
from torch.nn import functional as F

# A query attends to the cells that its mask covers at least half as much as the best covered one.
_MIN_FRACTION_OF_BEST = 0.5


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (N, H, W) bilinearly to (N, *size); the corners of pixels are not aligned."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def cells_inside(coverage: Tensor) -> Tensor:
    """Return which cells a mask's query may attend to.

    In Mask2Former a query whose mask vanishes on a coarse map attends everywhere. That of a given
    mask stays inside it: the cells that it covers best remain, down to a mask of one pixel.

    Args:
        coverage: (..., S), in 0..1.

    Returns:
        (..., S), bool, nowhere all False; all True where a mask is empty.
    """
    return coverage >= _MIN_FRACTION_OF_BEST * coverage.amax(-1, keepdim=True)


def mask_boxes(masks: Tensor) -> Tensor:
    """Return tight boxes of masks.

    Args:
        masks: (N, H, W), bool.

    Returns:
        (N, 4), float32, (x0, y0, x1, y1) in pixels with x1 and y1 one past the last pixel; zeros
        where a mask is empty.
    """
    return boxes_from_lines(masks.any(1), masks.any(2))


def boxes_from_lines(columns: Tensor, rows: Tensor) -> Tensor:
    """Return tight boxes of masks, from the lines that they touch.

    Args:
        columns: (N, W), bool, whether a mask has a pixel in that column.
        rows: (N, H), bool, the same of rows.

    Returns:
        as `mask_boxes`.
    """
    (x0, x1), (y0, y1) = _extent(columns), _extent(rows)
    boxes = torch.stack([x0, y0, x1, y1], 1).float()
    return boxes * columns.any(1)[:, None]


def _extent(line: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first True of each line (N, length) and one past the last; arbitrary if none."""
    length = line.shape[1]
    if length == 0:
        zeros = torch.zeros(len(line), dtype=torch.int64, device=line.device)
        return zeros, zeros
    return line.int().argmax(1), length - line.flip(1).int().argmax(1)
