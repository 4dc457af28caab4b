"""Given masks on feature maps: the coverage of cells, where queries attend, and pooled features.

Unlike predicted masks, given ones are exact: coverage is measured, not read from a logit.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# A query attends to the cells that its mask covers at least half as much as the best covered one.
_MIN_FRACTION_OF_BEST = 0.5


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
    return pool(areas[0], size)


def pool(coverage: Tensor, size: tuple[int, int]) -> Tensor:
    """Average coverage (..., h, w) over the cells of a coarser map, to (..., *size)."""
    return F.adaptive_avg_pool2d(coverage, size)


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


def pooled_features(coverage: Tensor, features: Tensor) -> Tensor:
    """Return the mean of the features under each mask, weighted by coverage.

    Args:
        coverage: (B, N, S), in 0..1.
        features: (B or 1, S, C).

    Returns:
        (B, N, C); zeros where a mask is empty.
    """
    weights = coverage / coverage.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return weights.to(features.dtype) @ features
