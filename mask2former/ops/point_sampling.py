"""Reading maps at points between pixels, and choosing the points that a mask loss is taken at.

Points are (x, y) in 0..1, with 0 and 1 at the outer edges of the map; what lies outside reads zero.
Source: PointRend, Kirillov et al. 2020, section 3.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .selection import nearest_to_zero

# Masks that are floats at a time: few, so that they stay in the cache; does not change the result.
_MASKS_PER_CHUNK = 4


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Read float maps at points, bilinearly.

    Args:
        maps: (N, H, W), or (N, C, H, W) for C maps that are read at the same points; floating.
        points: (N, P, 2), each row's own points; or, for (N, H, W), (P, 2), shared by all maps.

    Returns:
        (N, P) or (N, C, P), differentiable in maps.
    """
    grid = _grid(points, maps.dtype)
    if maps.dim() == 4:
        return _read_at_same_points(maps, grid)
    if points.dim() == 2:
        return _read_at_same_points(maps[None], grid)[0]
    return F.grid_sample(maps[:, None], grid, align_corners=False)[:, 0, 0]


def _read_at_same_points(maps: Tensor, grid: Tensor) -> Tensor:
    """Read maps (N, C, H, W) at the points of N grids (N, 1, P, 2), or of one for all: (N, C, P).

    Each map is a batch entry, as `grid_sample` on CPUs has one thread for each of these.
    """
    count, channels = maps.shape[:2]
    grids = grid.expand(count, -1, -1, -1)[:, None].expand(-1, channels, -1, -1, -1)
    entries = maps.reshape(count * channels, 1, *maps.shape[2:])
    sampled = F.grid_sample(entries, grids.flatten(0, 1), align_corners=False)
    return sampled.view(count, channels, grid.shape[2])


def _pixels_around(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return indices (P, 4) of the pixels around points (P, 2) in a flat map, int32, and their
    weights (P, 4), which are zero for pixels outside."""
    x, y = points.float().unbind(1)  # one axis after the other, as short axes are slow on CPUs
    left, right, left_weight, right_weight = _neighbours(x, width)
    upper, lower, upper_weight, lower_weight = _neighbours(y, height)
    index, weights = [], []
    for row, row_weight in ((upper * width, upper_weight), (lower * width, lower_weight)):
        index += [row + left, row + right]
        weights += [row_weight * left_weight, row_weight * right_weight]
    return torch.stack(index, 1), torch.stack(weights, 1)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pixels before and after each position (P,) in 0..1 along an axis, and their
    weights."""
    pixel = position * size - 0.5
    before = pixel.floor()
    after_weight = pixel.sub_(before)
    before_weight = 1 - after_weight
    first = before.int()
    last = first + 1
    before_weight *= (first >= 0) & (first < size)
    after_weight *= (last >= 0) & (last < size)
    return first.clamp_(0, size - 1), last.clamp_(0, size - 1), before_weight, after_weight


def sample_masks(masks: Tensor, points: Tensor, rows: Tensor | None = None) -> Tensor:
    """Read binary masks at points, bilinearly, of which few are floats at a time.

    Args:
        masks: (R, H, W), bool or integer.
        points: (N, P, 2), or (P, 2), shared by all masks, which are then read in order.
        rows: (N,), the mask that each set of points reads; all masks in order if not given.

    Returns:
        (N, P), float32, in 0..1 for bool masks.
    """
    if points.dim() == 2:
        index, weights = _pixels_around(points, masks.shape[-2], masks.shape[-1])
        pixels = masks.flatten(1)[:, index.flatten()].unflatten(1, index.shape)
        return (pixels * weights).sum(-1)
    if rows is None:
        rows = torch.arange(len(masks), device=masks.device)
    parts = [
        sample_maps(masks[some].float(), own_points)
        for some, own_points in zip(rows.split(_MASKS_PER_CHUNK), points.split(_MASKS_PER_CHUNK))
    ]
    return torch.cat(parts) if parts else points.new_zeros(points.shape[:2])


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
def uncertain_points(mask_logits: Tensor, num_candidates: int, num_uncertain: int) -> Tensor:
    """Choose those of the first points where a mask is least certain, and all of the rest.

    Args:
        mask_logits: (N, L, P'), L masks read at the same points.
        num_candidates: points to choose from, the first ones.
        num_uncertain: candidates to keep.

    Returns:
        (N, L, P), indices of the points.
    """
    rows, layers, count = mask_logits.shape
    size = (rows, layers, num_uncertain + count - num_candidates)
    index = torch.empty(size, dtype=torch.int64, device=mask_logits.device)
    candidates = mask_logits[..., :num_candidates]
    nearest_to_zero(candidates, num_uncertain, index[..., :num_uncertain])
    index[..., num_uncertain:] = torch.arange(num_candidates, count, device=index.device)
    return index


def take_points(points: Tensor, index: Tensor) -> Tensor:
    """Return points (N, L, P, 2) from those of every row (N, P', 2), by their indices (N, L, P)."""
    # As complex numbers, which are found at once: 4 % of matcher and losses.
    pairs = torch.view_as_complex(points.float().contiguous())[:, None]
    return torch.view_as_real(pairs.expand(-1, index.shape[1], -1).gather(2, index))


def values_at(maps: Tensor, points: Tensor, values: Tensor) -> Tensor:
    """Return what `sample_maps` would read of maps (N, H, W) at points (N, P, 2), where that is
    known already: returns the values (N, P), with the gradient in maps."""
    return _ValuesAt.apply(maps, points, values)


class _ValuesAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, points: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(maps, points)
        return values.view_as(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        maps, points = ctx.saved_tensors
        arguments = (grad[:, None, None], maps[:, None], _grid(points, maps.dtype))
        modes = (0, 0, False)  # bilinear, zeros outside, corners not aligned
        backward = torch.ops.aten.grid_sampler_2d_backward
        return backward(*arguments, *modes, [True, False])[0][:, 0], None, None


def _grid(points: Tensor, dtype: torch.dtype) -> Tensor:
    """Return points (N, P, 2), or (P, 2), in 0..1 as `grid_sample` takes them, (N, 1, P, 2) in
    -1..1."""
    return (points * 2).sub_(1).to(dtype).view(-1, 1, *points.shape[-2:])
