"""Deformable attention as an embedding bag, forward and backward, in PyTorch's own operators.

Bilinear sampling of P points on L levels is a weighted sum over L*P*4 pixels, and weighted sums of
rows of a table are what PyTorch's embedding bag computes, vectorised, on every device. Heads are
worked on one after the other, so that the map of one head and the indices of a chunk stay in the
processor's cache.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .atlas import (
    Atlas,
    Constants,
    Samples,
    before_first_pixel,
    corner_weights,
    find_samples,
)
from .custom_op import Sizes, deformable_op

# Samples of a chunk on a CPU: the forward's arrays stay in the cache. The backward sorts its
# samples and then walks over the map once, so it takes all queries of a head at a time.
_FORWARD_CHUNK = 2**17
_BACKWARD_CHUNK = 2**17
_GPU_CHUNK = 2**24


def forward(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum the samples; shapes as in `deform_attn.deformable_attention`.

    Computes in float32 (float64 if that comes), and returns the type of `value`.
    """
    batch, queries, heads, levels, points, _ = locations.shape
    dim, samples = value.shape[-1], levels * points
    atlas = Atlas(sizes)
    locations, weights = _by_head(value, locations, weights)
    budget = _FORWARD_CHUNK if value.device.type == "cpu" else _GPU_CHUNK
    num_heads = min(heads, max(1, budget // max(1, queries * samples)))
    num_queries = max(1, min(queries, budget // samples))
    constants = Constants.of(atlas, num_heads, num_queries, points, locations)
    table = atlas.zeros(num_heads, dim, locations)
    out = value.new_empty(batch, queries, heads, dim)
    for b, head in _images_and_heads(batch, heads, num_heads):
        _fill(table, value[b, :, head], atlas)
        for start in range(0, queries, num_queries):
            chunk = slice(start, start + num_queries)
            loc, att = locations[b, head, chunk], weights[b, head, chunk]
            sums = _sum_samples(table, loc, att, constants.part(*att.shape[:2]), atlas)
            out[b, chunk, head].copy_(sums.view(*att.shape[:2], dim).transpose(0, 1))
    return out.flatten(2)


def _sum_samples(
    table: Tensor, loc: Tensor, att: Tensor, constants: Constants, atlas: Atlas
) -> Tensor:
    """Return weighted sums (heads*q, dim) of the samples at loc (heads, q, L*P, 2)."""
    samples = find_samples(loc, constants, atlas.pitch)
    bags = samples.index.flatten(0, 1)
    total = table.new_empty(0)
    for shift, weight in zip(atlas.shifts, corner_weights(att.contiguous(), samples.x, samples.y)):
        part = F.embedding_bag(
            bags, table[shift:], per_sample_weights=weight.flatten(0, 1), mode="sum"
        )
        total = total.add_(part) if shift else part
    return total


def backward(
    grad_out: Tensor, value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of value, locations and weights; grad_out is (B, Q, M*D).

    Nothing of the forward is needed but its inputs. Results are the same in every run.
    """
    batch, queries, heads, levels, points, _ = locations.shape
    dim, samples = value.shape[-1], levels * points
    atlas = Atlas(sizes)
    grad_value = value.new_empty(value.shape)
    grad_locations = locations.new_empty(batch, queries, heads, samples, 2)
    grad_weights = weights.new_empty(batch, queries, heads, samples)
    locations, weights = _by_head(value, locations, weights)
    grad_out = grad_out.unflatten(-1, (heads, dim)).transpose(1, 2)  # (B, M, Q, D)
    budget = _BACKWARD_CHUNK if value.device.type == "cpu" else _GPU_CHUNK
    num_heads = min(heads, max(1, budget // max(1, queries * samples)))
    constants = Constants.of(atlas, num_heads, queries, points, locations)
    table = atlas.zeros(num_heads, dim, locations)
    for b, head in _images_and_heads(batch, heads, num_heads):
        _fill(table, value[b, :, head], atlas)
        bag_grads = grad_out[b, head].to(table.dtype).reshape(-1, dim).contiguous()
        att = weights[b, head].contiguous()
        part = constants.part(*att.shape[:2])
        d_table, d_loc, d_att = _chunk_gradients(
            table, locations[b, head], att, bag_grads, part, atlas
        )
        for grad, pixels in zip(atlas.interiors(d_table), atlas.pixels(grad_value[b, :, head])):
            pixels.copy_(grad)
        grad_locations[b, :, head].copy_(d_loc.transpose(0, 1))
        grad_weights[b, :, head].copy_(d_att.transpose(0, 1))
    spread = (levels, points)
    return grad_value, grad_locations.unflatten(3, spread), grad_weights.unflatten(3, spread)


def _chunk_gradients(
    table: Tensor,
    loc: Tensor,
    att: Tensor,
    bag_grads: Tensor,
    constants: Constants,
    atlas: Atlas,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients of a table, of the locations (heads, q, L*P, 2) and of their weights."""
    samples = find_samples(loc, constants, atlas.pitch)
    cells = len(att) * atlas.cells
    d_table = _sum_by_cell(samples, att, bag_grads, cells, atlas.shifts)

    bags = samples.index.flatten(0, 1)
    corners = [table[shift : shift + cells] for shift in atlas.shifts]
    dots = [dot.view_as(att) for dot in _dots_with_rows(bags, corners, bag_grads)]
    top_left, top_right, bottom_left, bottom_right = dots
    x, y = samples.x, samples.y
    top = torch.lerp(top_left, top_right, x)
    d_att = torch.lerp(top, torch.lerp(bottom_left, bottom_right, x), y)
    d_x = torch.lerp(top_right.sub(top_left), bottom_right.sub(bottom_left), y)
    d_y = torch.lerp(bottom_left.sub_(top_left), bottom_right.sub_(top_right), x)
    d_loc = torch.stack([d_x.mul_(att), d_y.mul_(att)], -1)
    # A sample that was moved to the first border has pixels beside it, and would get a slope from
    # them; beyond the last border there are zeros only.
    d_loc.mul_(constants.scale.view_as(d_loc)).masked_fill_(before_first_pixel(loc, constants), 0)
    return d_table, d_loc, d_att


def _sum_by_cell(
    samples: Samples, att: Tensor, grads: Tensor, cells: int, shifts: tuple[int, ...]
) -> Tensor:
    """Return sums of weight * (their query's row of grads) at the four cells of all samples.

    Once the samples are sorted by cell this is an embedding bag again: faster than a scatter-add.

    Args:
        samples, att: (heads, q, S) each, S samples of N = heads*q bags; grads: (N, D).

    Returns:
        (cells, D).
    """
    ordered, order = samples.index.flatten().sort(stable=True)
    first = _first_of_each(ordered, cells)
    query = order.div(samples.index.shape[-1], rounding_mode="floor")
    x, y, att = (values.flatten().index_select(0, order) for values in (samples.x, samples.y, att))
    total = grads.new_empty(0)
    for shift, weight in zip(shifts, corner_weights(att, x, y)):
        part = F.embedding_bag(query, grads, offsets=first, per_sample_weights=weight, mode="sum")
        if shift:
            total[shift:] += part[:-shift]
        else:
            total = part
    return total


def _first_of_each(ordered: Tensor, count: int) -> Tensor:
    """Return where each number 0..count-1 begins in a sorted tensor."""
    if ordered.device.type == "cpu":
        counts = ordered.bincount(minlength=count)
        return counts.cumsum(0).sub_(counts)
    return _first_by_search(ordered, count)


def _first_by_search(ordered: Tensor, count: int) -> Tensor:
    """Return the same for other devices, where bincount would wait for the result."""
    return torch.searchsorted(ordered, torch.arange(count, device=ordered.device).to(ordered))


def _dots_with_rows(bags: Tensor, tables: Sequence[Tensor], values: Tensor) -> list[Tensor]:
    """Return dot products (N, S) of values (N, D) with the rows bags (N, S) of tables of one
    size."""
    if values.device.type != "cpu":
        return _dots_by_gather(bags, tables, values)
    _silence_beta_warning()
    pattern = torch.sparse_csr_tensor(
        torch.arange(0, bags.numel() + 1, bags.shape[1], dtype=bags.dtype),
        bags.flatten(),
        torch.zeros(bags.numel(), dtype=values.dtype),
        (len(bags), len(tables[0])),
        check_invariants=False,  # columns of a row are neither sorted nor distinct: no matter here
    )
    products = (torch.sparse.sampled_addmm(pattern, values, t.t(), beta=0.0) for t in tables)
    return [product.values().view_as(bags) for product in products]


def _dots_by_gather(bags: Tensor, tables: Sequence[Tensor], values: Tensor) -> list[Tensor]:
    """Return the same for other devices, where the sparse product may want sorted columns."""
    step = max(1, _GPU_CHUNK // (bags.shape[1] * values.shape[1]))
    parts = list(zip(bags.split(step), values.split(step)))
    return [torch.cat([(t[rows] * v[:, None]).sum(-1) for rows, v in parts]) for t in tables]


@lru_cache(maxsize=1)
def _silence_beta_warning() -> None:
    """Make the first sparse CSR tensor of a process, at which PyTorch warns, without the
    warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


def _by_head(value: Tensor, locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return locations (B, M, Q, L*P, 2) and weights (B, M, Q, L*P) as views, in the type of the
    sums."""
    wide = torch.float64 in (value.dtype, locations.dtype, weights.dtype)
    dtype = torch.float64 if wide else torch.float32
    locations, weights = locations.to(dtype).flatten(3, 4), weights.to(dtype).flatten(3)
    return locations.transpose(1, 2), weights.transpose(1, 2)


def _images_and_heads(batch: int, heads: int, step: int) -> Iterator[tuple[int, slice]]:
    for b in range(batch):
        for start in range(0, heads, step):
            yield b, slice(start, min(start + step, heads))


def _fill(table: Tensor, value: Tensor, atlas: Atlas) -> None:
    """Write the pixels of some heads (S, heads, D) into the map; the border stays zero."""
    for level, pixels in zip(atlas.interiors(table), atlas.pixels(value)):
        level[: len(pixels)].copy_(pixels)


operator = deformable_op("deform_attn_bag", forward, backward)
