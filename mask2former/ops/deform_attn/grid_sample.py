"""Deformable attention in plain PyTorch: slow, exportable, and twice differentiable."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def deformable_attention_grid_sample(
    value: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Compute the same as `dispatch.deformable_attention` by `grid_sample`, in five axes at most.

    Samples are summed level by level: one sum over all takes runtimes for exported models more
    than twice the time.
    """
    batch, _, heads, dim = value.shape
    if weights.dim() == 5:
        locations, weights = locations.flatten(3, 4), weights.flatten(3)
    queries, points = locations.shape[1], locations.shape[3] // len(sizes)
    dtype = torch.promote_types(value.dtype, locations.dtype)
    sums = []
    for level, (x, (h, w)) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes)):
        maps = x.to(dtype).permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        chosen = slice(level * points, (level + 1) * points)
        grid = 2 * locations[:, :, :, chosen].to(dtype) - 1
        grid = grid.transpose(1, 2).reshape(batch * heads, queries, points, 2)
        samples = F.grid_sample(maps, grid, align_corners=False)  # (B*M, D, Q, P)
        factors = weights[:, :, :, chosen].transpose(1, 2)  # (B, M, Q, P)
        sums.append((samples * factors.reshape(batch * heads, 1, queries, points)).sum(-1))
    out = sum(sums[1:], sums[0]).view(batch, heads * dim, queries)
    return out.transpose(1, 2).to(value.dtype)
