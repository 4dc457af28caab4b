"""Deformable attention in plain PyTorch: slow, exportable, and twice differentiable."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def deformable_attention_grid_sample(
    value: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Compute the same as `dispatch.deformable_attention` by `grid_sample`, level by level."""
    batch, _, heads, dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    dtype = torch.promote_types(value.dtype, locations.dtype)
    sampled = []
    for level, (x, (h, w)) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes)):
        maps = x.to(dtype).permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        grid = 2 * locations[:, :, :, level].to(dtype) - 1
        grid = grid.transpose(1, 2).reshape(batch * heads, queries, points, 2)
        sampled.append(F.grid_sample(maps, grid, align_corners=False))
    samples = torch.stack(sampled, 3)  # (B*M, D, Q, L, P)
    summands = samples * weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels, points)
    out = summands.sum((-1, -2)).view(batch, heads * dim, queries)
    return out.transpose(1, 2).to(value.dtype)
