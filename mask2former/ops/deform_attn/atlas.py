"""The levels of one image in one map with a border of zeros, and the four pixels of each sample.

With the border, samples outside need no mask; with one width for all levels, the right, lower and
lower right neighbours of a pixel are at the same distance everywhere, so that one index serves all
four pixels of a sample. Used by `bag`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .custom_op import Sizes


@dataclass(frozen=True)
class Atlas:
    """Where the levels lie, one below the other, each with a border of one pixel.

    Args:
        sizes: (H, W) of every level.
    """

    sizes: Sizes

    @cached_property
    def pitch(self) -> int:
        """Cells from a pixel to the one below it."""
        return max(w for _, w in self.sizes) + 2

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First cell of every level; the last number is the number of cells."""
        starts = [0]
        for h, _ in self.sizes:
            starts.append(starts[-1] + (h + 2) * self.pitch)
        return tuple(starts)

    @property
    def cells(self) -> int:
        """Cells of one head of one image."""
        return self.starts[-1]

    @property
    def shifts(self) -> tuple[int, int, int, int]:
        """Cells from the top left pixel of a sample to all four: itself, right, below, both."""
        return 0, 1, self.pitch, self.pitch + 1

    def zeros(self, heads: int, dim: int, like: Tensor) -> Tensor:
        """Return an empty map of several heads, (heads*cells + spare, dim).

        The spare cells are for neighbours, which have no weight, of the very last cell.
        """
        return like.new_zeros(heads * self.cells + self.shifts[-1], dim)

    def interiors(self, table: Tensor) -> Iterator[Tensor]:
        """Return the levels without their borders, (heads, H, W, dim) each, as views of a table.

        Args:
            table: (heads*cells or more, dim).
        """
        heads = len(table) // self.cells
        maps = table[: heads * self.cells].unflatten(0, (heads, self.cells))
        for (h, w), start in zip(self.sizes, self.starts):
            level = maps[:, start : start + (h + 2) * self.pitch].unflatten(1, (-1, self.pitch))
            yield level[:, 1 : h + 1, 1 : w + 1]

    def pixels(self, value: Tensor) -> Iterator[Tensor]:
        """Return the levels of a value tensor (S, heads, dim), (heads, H, W, dim) each, as
        views."""
        for level, size in zip(value.split([h * w for h, w in self.sizes]), self.sizes):
            yield level.unflatten(0, size).permute(2, 0, 1, 3)


@dataclass(frozen=True)
class Constants:
    """Constants of every sample of a chunk, in full: broadcasting short axes is slow on CPUs.

    Args:
        scale: (heads, q, 2*L*P), widths and heights of the levels, x and y in turn.
        limit: the same shape, the last cell of a row or column.
        first: (heads, q, L*P) int32, the first cell of a sample's level and head.
    """

    scale: Tensor
    limit: Tensor
    first: Tensor

    @classmethod
    def of(cls, atlas: Atlas, heads: int, queries: int, points: int, like: Tensor) -> "Constants":
        """Make the constants for chunks of up to this many heads and queries, of the type of
        `like`."""
        widths = torch.tensor([(w, h) for h, w in atlas.sizes], dtype=like.dtype)
        scale = widths[:, None].expand(-1, points, -1).reshape(-1)
        start = torch.tensor(atlas.starts[:-1], dtype=torch.int32)[:, None].expand(-1, points)
        head = torch.arange(heads, dtype=torch.int32) * atlas.cells
        first = start.reshape(-1) + head[:, None, None]
        scale = scale.to(like.device, non_blocking=True).expand(heads, queries, -1).contiguous()
        first = first.to(like.device, non_blocking=True).expand(-1, queries, -1).contiguous()
        return cls(scale, scale + 1, first)

    def part(self, heads: int, queries: int) -> "Constants":
        """Return the constants of a smaller chunk."""
        return Constants(*(x[:heads, :queries] for x in (self.scale, self.limit, self.first)))


@dataclass(frozen=True)
class Samples:
    """Where samples lie.

    Args:
        index: (heads, q, L*P) int32, the cell of the top left pixel.
        x, y: (heads, q, L*P), distances from that pixel, in 0..1.
    """

    index: Tensor
    x: Tensor
    y: Tensor


def corner_weights(weights: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return attention weights of samples, split over top left, right, below, both.

    Args:
        weights, x, y: of one shape; x and y as in `Samples`.
    """
    right = weights * x
    both = right * y
    below = (weights * y).sub_(both)
    top_left = (weights - right).sub_(below)
    return top_left, right.sub_(both), below, both


def find_samples(locations: Tensor, constants: Constants, pitch: int) -> Samples:
    """Find the pixels around locations (heads, q, L*P, 2), (x, y) in 0..1 of each level."""
    cell = _cells(locations, constants).clamp_(min=0)
    torch.minimum(cell, constants.limit, out=cell)

    def columns(x: Tensor, dtype: torch.dtype) -> Tensor:
        pairs = x.unflatten(-1, (-1, 2)).movedim(-1, 0)
        return torch.empty(pairs.shape, dtype=dtype, device=x.device).copy_(pairs)

    column, row = columns(cell, torch.int32)  # rounded down
    index = column.add_(constants.first).add_(row, alpha=pitch)
    x, y = columns(cell.frac_(), cell.dtype)
    # What is not a number gives an arbitrary integer; the weights carry it on.
    return Samples(index.clamp_(min=0), x, y)


def before_first_pixel(locations: Tensor, constants: Constants) -> Tensor:
    """Return where `find_samples` moves a location to the first border, on each axis.

    There are pixels beside it, unlike beyond the last border. Returns bool, shaped as locations.
    """
    return (_cells(locations, constants) < 0).view(locations.shape)


def _cells(locations: Tensor, constants: Constants) -> Tensor:
    """Return locations (heads, q, L*P, 2) in cells from the corner of their level, (heads, q,
    2*L*P)."""
    cells = torch.empty_like(constants.scale, memory_format=torch.contiguous_format)
    torch.mul(locations.flatten(2), constants.scale, out=cells)
    return cells.add_(0.5)  # minus half a pixel, plus one cell of border
