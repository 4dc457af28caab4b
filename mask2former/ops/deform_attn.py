"""Multi-scale deformable attention: each output is a weighted sum of a few rows of a table.

Source: Deformable DETR, Zhu et al. 2021, equation 3. Bilinear sampling of P points on L levels is a
sum over L*P*4 pixels, so the whole operator is an embedding bag, for which PyTorch has a vectorised
kernel on every device: no compiled extension is needed.

Shapes: S is the sum of H*W over the levels, D = C/M the channels of a head.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Queries of one chunk: small enough that indices and weights stay in the processor's cache.
_QUERIES_PER_CHUNK = 512
# The backward walks over the whole table once a chunk, so its chunks are longer.
_QUERIES_PER_BACKWARD_CHUNK = 4096

Sizes = tuple[tuple[int, int], ...]


def deformable_attention(
    value: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum bilinear samples of the value maps under attention weights.

    Args:
        value: (B, S, M, D), the levels' pixels in row-major order, one level after the other.
        sizes: (H, W) of every level.
        locations: (B, Q, M, L, P, 2), (x, y) with 0 and 1 at the outer edges of the map; a
            sample outside reads zeros.
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M*D), with the heads side by side.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    sizes = tuple((int(h), int(w)) for h, w in sizes)
    _check_shapes(value, sizes, locations, weights)
    if torch.compiler.is_exporting():
        return deformable_attention_grid_sample(value, sizes, locations, weights)
    table = _bordered_table(value, sizes)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (table, locations, weights)):
        out = _BagAttention.apply(table, locations, weights, sizes)
    else:
        out = _forward(table, locations, weights, sizes)
    return out


def deformable_attention_grid_sample(
    value: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """The same sum through `grid_sample`: slower; for export, and as the oracle of tests."""
    batch, _, heads, dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    sampled = []
    for level, (x, (h, w)) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes)):
        maps = x.permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        grid = 2 * locations[:, :, :, level] - 1
        grid = grid.transpose(1, 2).reshape(batch * heads, queries, points, 2)
        sampled.append(F.grid_sample(maps, grid, align_corners=False))
    samples = torch.stack(sampled, 3)  # (B*M, D, Q, L, P)
    summands = samples * weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels, points)
    out = summands.sum((-1, -2)).view(batch, heads * dim, queries)
    return out.transpose(1, 2)


def _check_shapes(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> None:
    total = sum(h * w for h, w in sizes)
    if value.dim() != 4 or value.shape[1] != total:
        raise ValueError(
            f"deformable_attention: value must be (B, {total}, M, D) for levels {sizes}, "
            f"got {tuple(value.shape)}."
        )
    expected = (value.shape[0], value.shape[2], len(sizes), 2)
    got = tuple(locations.shape)
    if locations.dim() != 6 or (got[0], got[2], got[3], got[5]) != expected:
        raise ValueError(
            "deformable_attention: locations must be (B, Q, M, L, P, 2) with "
            f"(B, M, L, 2) = {expected}, got {got}."
        )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(
            "deformable_attention: weights must have the shape of locations without its last "
            f"axis, {got[:-1]}, got {tuple(weights.shape)}."
        )


@lru_cache(maxsize=64)
def _level_starts(sizes: Sizes) -> tuple[tuple[int, ...], int]:
    """First row of each level in the bordered table of one image, and the number of rows."""
    starts, total = [], 0
    for h, w in sizes:
        starts.append(total)
        total += (h + 2) * (w + 2)
    return tuple(starts), total


def _bordered_table(value: Tensor, sizes: Sizes) -> Tensor:
    """Give every level a border of zeros, so that samples outside need no mask.

    Returns:
        (B, rows, M, D), the bordered levels one after the other.
    """
    batch, _, heads, dim = value.shape
    maps = [
        F.pad(x.unflatten(1, size), (0, 0, 0, 0, 1, 1, 1, 1)).view(batch, -1, heads, dim)
        for x, size in zip(value.split([h * w for h, w in sizes], 1), sizes)
    ]
    return torch.cat(maps, 1)


def _level_constants(
    sizes: Sizes, heads: int, points: int, like: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Widths and heights of the levels, strides of a row and first rows in the bordered table.

    Returns:
        four (M, L, P), the first two of the type of `like`, the others int64. They are spelt out
        over heads and points, since broadcasting along short axes is slow on CPUs.
    """
    starts, _ = _level_starts(sizes)
    device = like.device

    def spread(per_level: list[int], dtype: torch.dtype) -> Tensor:
        column = torch.tensor(per_level, device=device, dtype=dtype)[:, None]
        return column.expand(heads, -1, points).contiguous()

    # The border shifts a pixel by one row and one column; a pixel has a table row for each head.
    first = [(start + w + 3) * heads for start, (_, w) in zip(starts, sizes)]
    head = torch.arange(heads, device=device)[:, None, None]
    return (
        spread([w for _, w in sizes], like.dtype),
        spread([h for h, _ in sizes], like.dtype),
        spread([(w + 2) * heads for _, w in sizes], torch.int64),
        spread(first, torch.int64) + head,
    )


def _place(location: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel before each location on one axis, distance from it, and whether it was not clamped."""
    raw = location * length - 0.5
    pixel = raw.clamp(min=-1).minimum(length)
    corner = pixel.floor().minimum(length - 1)
    return corner.long(), pixel - corner, raw == pixel


def _corners(
    locations: Tensor, sizes: Sizes, heads: int, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Table rows of the four pixels around each sample, and the sample's place between them.

    Args:
        locations: (B, q, M, L, P, 2), a chunk of the queries.

    Returns:
        index (B, q, M, L, P, 4), rows of the (B*rows*M, D) table, in the order top left, top
        right, bottom left, bottom right; fraction (2, B, q, M, L, P), distances x and y from the
        top left pixel, in 0..1; inside (same shape), False where the location was clamped.
    """
    width, height, pitch, first = _level_constants(sizes, heads, locations.shape[4], locations)
    x, fraction_x, inside_x = _place(locations[..., 0], width)
    y, fraction_y, inside_y = _place(locations[..., 1], height)
    batch = torch.arange(locations.shape[0], device=locations.device).view(-1, 1, 1, 1, 1)
    index = y * pitch + x * heads + first + batch * (rows * heads)
    below = index + pitch
    index = torch.stack([index, index + heads, below, below + heads], -1)
    return index, torch.stack([fraction_x, fraction_y]), torch.stack([inside_x, inside_y])


def _bilinear(fraction: Tensor) -> Tensor:
    """Weights of the four pixels, (..., 4), from the sample's place (2, ...) between them."""
    x, y = fraction
    right, bottom = x, y
    left, top = 1 - x, 1 - y
    return torch.stack([left * top, right * top, left * bottom, right * bottom], -1)


def _forward(table: Tensor, locations: Tensor, weights: Tensor, sizes: Sizes) -> Tensor:
    """Look up all bags, chunk by chunk."""
    batch, rows, heads, dim = table.shape
    flat = table.view(-1, dim)
    outs = []
    for loc, att in zip(
        locations.split(_QUERIES_PER_CHUNK, 1), weights.split(_QUERIES_PER_CHUNK, 1)
    ):
        index, fraction, _ = _corners(loc, sizes, heads, rows)
        bag_weights = (_bilinear(fraction) * att[..., None]).to(flat.dtype)
        bag = index.shape[3] * index.shape[4] * 4
        out = F.embedding_bag(
            index.view(-1, bag), flat, per_sample_weights=bag_weights.view(-1, bag), mode="sum"
        )
        outs.append(out.view(batch, loc.shape[1], heads * dim))
    return torch.cat(outs, 1) if len(outs) > 1 else outs[0]


class _BagAttention(torch.autograd.Function):
    """The embedding bag with a backward of its own.

    Nothing but the inputs is kept; a chunk's indices are worked out again. The gradient of a
    weight is the dot product of its row with the output's gradient. That of a row is a weighted
    sum of output gradients, which is an embedding bag again, once the samples are sorted by row:
    faster than a scatter-add, and the same in every run.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, locations: Tensor, weights: Tensor, sizes: Sizes
    ) -> Tensor:
        ctx.save_for_backward(table, locations, weights)
        ctx.sizes = sizes
        return _forward(table, locations, weights, sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        table, locations, weights = ctx.saved_tensors
        dim = table.shape[-1]
        grad_table = torch.zeros_like(table)
        grad_locations, grad_weights = [], []
        for start in range(0, locations.shape[1], _QUERIES_PER_BACKWARD_CHUNK):
            chunk = slice(start, start + _QUERIES_PER_BACKWARD_CHUNK)
            g = grad_out[:, chunk].reshape(-1, dim)  # one row a bag
            d_loc, d_att = _backward_chunk(
                table, locations[:, chunk], weights[:, chunk], g, ctx.sizes, grad_table
            )
            grad_locations.append(d_loc)
            grad_weights.append(d_att)
        return grad_table, torch.cat(grad_locations, 1), torch.cat(grad_weights, 1), None


def _backward_chunk(
    table: Tensor, loc: Tensor, att: Tensor, grad_out: Tensor, sizes: Sizes, grad_table: Tensor
) -> tuple[Tensor, Tensor]:
    """Add a chunk's share to grad_table; return the gradients of its locations and weights."""
    rows, heads, dim = table.shape[1:]
    index, fraction, inside = _corners(loc, sizes, heads, rows)
    corner_weights = _bilinear(fraction)
    flat_table, bag = table.view(-1, dim), index.shape[3:].numel()
    bags = index.view(-1, bag)
    per_sample = (corner_weights * att[..., None]).view(-1, bag).to(table.dtype)
    grad_table.view(-1, dim).add_(_sum_by_row(bags, per_sample, grad_out, len(flat_table)))

    dots = _dot_with_rows(bags, flat_table, grad_out).view(index.shape)
    grad_att = (dots * corner_weights).sum(-1)
    x, y = fraction
    top_left, top_right, bottom_left, bottom_right = dots.unbind(-1)
    d_x = (top_right - top_left) * (1 - y) + (bottom_right - bottom_left) * y
    d_y = (bottom_left - top_left) * (1 - x) + (bottom_right - top_right) * x
    width, height, _, _ = _level_constants(sizes, heads, loc.shape[4], loc)
    d_x, d_y = d_x * att * width * inside[0], d_y * att * height * inside[1]
    return torch.stack([d_x, d_y], -1), grad_att


def _sum_by_row(bags: Tensor, weights: Tensor, values: Tensor, num_rows: int) -> Tensor:
    """For every row r the sum of weights[i, j] * values[i] over all i, j with bags[i, j] = r.

    Args:
        bags, weights: (N, S).
        values: (N, D).

    Returns:
        (num_rows, D).
    """
    rows, order = bags.flatten().sort()
    counts = rows.bincount(minlength=num_rows)
    return F.embedding_bag(
        order.div(bags.shape[1], rounding_mode="floor"),
        values,
        offsets=counts.cumsum(0) - counts,
        per_sample_weights=weights.flatten()[order],
        mode="sum",
    )


def _dot_with_rows(bags: Tensor, table: Tensor, values: Tensor) -> Tensor:
    """Dot products (N, S) of values (N, D) with the table's rows bags (N, S).

    They are the gradient of a bag's sum in its weights, for which PyTorch has a kernel that
    gathers nothing into memory.
    """
    with torch.enable_grad():
        weights = torch.zeros_like(bags, dtype=table.dtype, requires_grad=True)
        out = F.embedding_bag(bags, table.detach(), per_sample_weights=weights, mode="sum")
    return torch.autograd.grad(out, weights, values)[0]
