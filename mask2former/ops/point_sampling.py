"""Reading maps at points between pixels, and choosing the points that a mask loss is taken at.

Points are (x, y) in 0..1, with 0 and 1 at the outer edges of the map; what lies outside reads zero.
Source: PointRend, Kirillov et al. 2020, section 3.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Read float maps at points, bilinearly.

    Args:
        maps: (N, H, W), floating.
        points: (N, P, 2), each map's own points, or (P, 2), shared by all maps.

    Returns:
        (N, P), differentiable in maps.
    """
    if points.dim() == 2:  # one grid, with the maps as its channels
        grid = (2 * points - 1).to(maps.dtype)[None, None]
        return F.grid_sample(maps[None], grid, align_corners=False)[0, :, 0]
    grid = (2 * points - 1).to(maps.dtype)[:, None]
    return F.grid_sample(maps[:, None], grid, align_corners=False)[:, 0, 0]


def sample_masks(masks: Tensor, points: Tensor, rows: Tensor | None = None) -> Tensor:
    """Read binary masks at points, bilinearly, without turning the masks into floats first.

    Args:
        masks: (R, H, W), bool or integer.
        points: (N, P, 2), or (P, 2), shared by all masks that are read.
        rows: (N,), the mask that each set of points reads; all masks in order if not given.

    Returns:
        (N, P), float32, in 0..1 for bool masks.
    """
    count, height, width = masks.shape
    if rows is None:
        rows = torch.arange(count, device=masks.device)
    size = torch.tensor([width, height], device=points.device, dtype=torch.float32)
    pixel = points.float() * size - 0.5
    corner = pixel.floor()
    fraction = pixel - corner
    corner = corner.long()
    flat = masks.reshape(-1)
    start = (rows * (height * width))[:, None]
    out = torch.zeros(len(rows), points.shape[-2], device=masks.device)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = corner[..., 0] + dx, corner[..., 1] + dy
            weight = (fraction[..., 0] - (1 - dx)).abs() * (fraction[..., 1] - (1 - dy)).abs()
            weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
            index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
            out += flat[start + index] * weight
    return out


def look_up_masks(masks: Tensor, points: Tensor, rows: Tensor | None = None) -> Tensor:
    """Read binary masks at points, each at the pixel that the point lies in.

    Args:
        masks, points, rows: as for `sample_masks`.

    Returns:
        (N, P), of the masks' type.
    """
    count, height, width = masks.shape
    if rows is None:
        rows = torch.arange(count, device=masks.device)
    x = (points[..., 0] * width).long().clamp(0, width - 1)
    y = (points[..., 1] * height).long().clamp(0, height - 1)
    return masks.reshape(-1)[(rows * (height * width))[:, None] + y * width + x]


def random_points(
    count: int, num_points: int, device: torch.device, seeds: Sequence[int] | None = None
) -> Tensor:
    """Draw uniform points in the unit square.

    Args:
        count: sets of points wanted.
        num_points: points of a set.
        seeds: one a set; a set's points then depend on nothing else.

    Returns:
        (count, num_points, 2).
    """
    if seeds is None:
        return torch.rand(count, num_points, 2, device=device)
    drawn = [
        torch.rand(num_points, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    ]
    return torch.stack(drawn).to(device)


@torch.no_grad()
def uncertain_points(
    mask_logits: Tensor, candidates: Tensor, uniform: Tensor, num_uncertain: int
) -> Tensor:
    """Keep the candidates where the mask is least sure, and add the uniform ones.

    Args:
        mask_logits: (N, H, W).
        candidates: (N, P', 2), points to choose from.
        uniform: (N, P'', 2), points taken as they are.
        num_uncertain: candidates to keep.

    Returns:
        (N, num_uncertain + P'', 2).
    """
    if num_uncertain == 0:
        return uniform
    doubt = -sample_maps(mask_logits, candidates).abs()
    index = doubt.topk(num_uncertain, dim=1, sorted=False).indices
    kept = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    return torch.cat([kept, uniform], 1)
