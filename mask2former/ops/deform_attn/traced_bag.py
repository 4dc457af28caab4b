"""Deformable attention as one embedding bag over all images and heads, for exported programs.

Sizes may be symbols, and there are no loops over chunks. Source: `bag`, which is faster where
chunks stay in the processor's cache.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..recording import integers
from .custom_op import Sizes


def forward(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Compute the same as `deform_attn.deformable_attention`.

    Every level has a border of zeros in the table, so that samples outside need no mask.
    """
    batch, pixels, heads, dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    maps = value.float().transpose(1, 2).reshape(batch * heads, pixels, dim)
    parts, starts = [], [0]
    for level, (h, w) in zip(maps.split([h * w for h, w in sizes], 1), sizes):
        bordered = F.pad(level.reshape(batch * heads, h, w, dim), (0, 0, 1, 1, 1, 1))
        parts.append(bordered.flatten(1, 2))
        starts.append(starts[-1] + (h + 2) * (w + 2))
    table = torch.cat(parts, 1)

    ends = integers([n for h, w in sizes for n in (w + 1, h + 1)]).view(levels, 1, 2).float()
    pitch = integers([w + 2 for _, w in sizes]).view(levels, 1)
    first = integers(starts[:-1]).view(levels, 1)
    # In cells from the corner of the border: minus half a pixel, plus a cell.
    cells = locations.float().permute(0, 2, 1, 3, 4, 5) * (ends - 1) + 0.5
    cells = torch.minimum(cells.clamp(min=0), ends)  # (B, M, Q, L, P, 2)
    corner = torch.minimum(cells.floor(), ends - 1)  # its neighbours are in the table
    x, y = (cells - corner).unbind(-1)
    column, row = corner.long().unbind(-1)
    index = (row * pitch + column + first).reshape(batch * heads, queries, levels * points)
    index = index + torch.arange(batch * heads)[:, None, None] * starts[-1]
    index = index.flatten(0, 1)
    down = pitch.expand(levels, points).flatten()

    att = weights.float().permute(0, 2, 1, 3, 4)
    right, below = att * x, att * y
    both = right * y
    shares = [t.reshape(index.shape) for t in (att - right - below + both, right - both)]
    shares += [t.reshape(index.shape) for t in (below - both, both)]
    out = F.embedding_bag(
        torch.cat([index, index + 1, index + down, index + down + 1], 1),
        table.flatten(0, 1),
        per_sample_weights=torch.cat(shares, 1),
        mode="sum",
    )
    out = out.view(batch, heads, queries, dim).transpose(1, 2).flatten(2)
    return out.to(value.dtype)
