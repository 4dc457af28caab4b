"""Deformable attention by gathers, for exported models whose runtime mishandles `grid_sample`."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from ..recording import integers


def deformable_attention_gather(
    value: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Compute the same as `dispatch.deformable_attention`: the four pixels around every sample are
    read as rows of a table. Sizes may be symbols; tensors have five axes at most."""
    batch, _, heads, dim = value.shape
    if weights.dim() == 5:
        locations, weights = locations.flatten(3, 4), weights.flatten(3)
    queries, points = locations.shape[1], locations.shape[3] // len(sizes)
    groups = batch * heads
    dtype = torch.promote_types(value.dtype, locations.dtype)
    sums = []
    for level, (x, (h, w)) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes)):
        table = x.to(dtype).transpose(1, 2).reshape(groups * h * w, dim)
        chosen = slice(level * points, (level + 1) * points)
        size = integers([w, h], value.device)
        places = locations[:, :, :, chosen].transpose(1, 2).reshape(groups, queries * points, 2)
        places = places.to(dtype) * size - 0.5
        corner = places.floor()
        shares = weights[:, :, :, chosen].transpose(1, 2).reshape(groups, queries * points)
        start = torch.arange(groups, device=value.device)[:, None] * (h * w)
        for offset in product((0, 1), (0, 1)):  # along x and y
            pixel = corner + torch.tensor(offset, device=value.device)
            near = 1 - (places - pixel).abs()
            inside = ((pixel >= 0) & (pixel < size)).all(-1)
            column, row = torch.minimum(pixel.clamp(min=0), size - 1).long().unbind(-1)
            rows = table.index_select(0, (start + row * w + column).flatten())
            factors = (near.prod(-1) * shares * inside).view(groups, queries, points, 1)
            sums.append((rows.view(groups, queries, points, dim) * factors).sum(2))
    out = sum(sums[1:], sums[0]).view(batch, heads, queries, dim)
    return out.transpose(1, 2).flatten(2).to(value.dtype)
