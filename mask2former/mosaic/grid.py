"""Where tiles lie in an image, and what of each of them counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from ..errors import UserError

Size = tuple[int, int]  # H, W in pixels


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes:
        size: side of the tiles in pixels; an image that is smaller makes smaller ones.
        overlap: pixels that neighbours share; objects are joined there.

    Raises:
        UserError: tiles that share nothing, or are not at least twice as large as what they share.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.overlap < 1 or self.size < 2 * self.overlap:
            raise UserError(
                "expected tiles that overlap by 1 pixel or more, and are at least twice as large "
                f"as their overlap, got tiles of {self.size} pixels and an overlap of "
                f"{self.overlap}; choose larger tiles or a smaller overlap"
            )

    @classmethod
    def of(cls, size: int, overlap: int | None = None) -> Self:
        """Return tiles that overlap by a quarter of their side where nothing else is asked for."""
        return cls(size, max(size // 4, 1) if overlap is None else overlap)


@dataclass(frozen=True)
class Span:
    """One side of a tile; all values are pixels of the image, ends are one past the last.

    Attributes:
        start, stop: what the model sees.
        begin: first pixel that is used; behind the end of the last tile but one.
        own, own_stop: what is nearer to this tile's middle than to its neighbours'.
        next_begin: the `begin` of the next tile, or the end of the image.
        last_stop: the `stop` of the tile before, or 0.
    """

    start: int
    stop: int
    begin: int
    own: int
    own_stop: int
    next_begin: int
    last_stop: int

    @property
    def predicted(self) -> slice:
        """What the model sees."""
        return slice(self.start, self.stop)

    @property
    def used(self) -> slice:
        """What is used of it."""
        return slice(self.begin, self.stop)

    @property
    def cell(self) -> slice:
        """What no other tile knows better."""
        return slice(self.own, self.own_stop)

    @property
    def done(self) -> slice:
        """What no later tile adds to, once this one is there."""
        return slice(self.begin, self.next_begin)


def spans(length: int, tiling: Tiling) -> list[Span]:
    """Return the tiles along a side of `length` pixels.

    The last one is moved back so that it is as large as the others. What it then shares with the
    last but two is not used, so that only neighbours overlap.
    """
    step, last = tiling.size - tiling.overlap, max(length - tiling.size, 0)
    starts = [*range(0, last, step), last]
    stops = [min(start + tiling.size, length) for start in starts]
    begins = [max(s, stops[i - 2]) if i > 1 else s for i, s in enumerate(starts)]
    seams = [(begin + stop) // 2 for begin, stop in zip(begins[1:], stops)]
    owns = [0, *seams, length]
    return [
        Span(starts[i], stops[i], begins[i], owns[i], owns[i + 1], after, before)
        for i, (after, before) in enumerate(zip([*begins[1:], length], [0, *stops]))
    ]


@dataclass(frozen=True)
class Tile:
    """A window of an image.

    Attributes:
        row, column: place in the grid.
        y, x: its two sides.
    """

    row: int
    column: int
    y: Span
    x: Span

    def local(self, rows: slice, columns: slice) -> tuple[slice, slice]:
        """Return where a part of the image lies in what the model sees; empty where it does not."""
        return _inside(rows, self.y), _inside(columns, self.x)


def _inside(part: slice, span: Span) -> slice:
    start, stop = max(part.start, span.start), min(part.stop, span.stop)
    return slice(start - span.start, max(stop, start) - span.start)


@dataclass(frozen=True)
class Grid:
    """The tiles of an image of a size (H, W), row by row."""

    size: Size
    tiling: Tiling

    @cached_property
    def rows(self) -> list[Span]:
        """The tiles along the height."""
        return spans(self.size[0], self.tiling)

    @cached_property
    def columns(self) -> list[Span]:
        """The tiles along the width."""
        return spans(self.size[1], self.tiling)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        for row, y in enumerate(self.rows):
            for column, x in enumerate(self.columns):
                yield Tile(row, column, y, x)

    def neighbours(self, tile: Tile) -> Iterator[Tile]:
        """Yield the tiles beside a tile and at its corners."""
        for row in range(max(tile.row - 1, 0), min(tile.row + 2, len(self.rows))):
            for column in range(max(tile.column - 1, 0), min(tile.column + 2, len(self.columns))):
                if (row, column) != (tile.row, tile.column):
                    yield Tile(row, column, self.rows[row], self.columns[column])
