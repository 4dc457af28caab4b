"""The results of an image that was predicted in tiles, as streams of rows and of objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formats.rle import RLE, from_intervals
from .grid import Size, Tile, Tiling
from .joining import (
    Kept,
    OnTiles,
    Options,
    Predict,
    Raster,
    keep_tiles,
    no_progress,
    tiles_with_objects,
)

_MIN_OWN = 0.5  # of an object that only one tile sees, in the part that this tile knows best


@dataclass(frozen=True)
class Instance:
    """An instance of the whole image.

    Attributes:
        label: its class.
        score: class probability times mean mask probability inside the mask.
        box: x, y, width and height in pixels.
        rle: its mask.
    """

    label: int
    score: float
    box: tuple[int, int, int, int]
    rle: RLE


class Mosaic:
    """The results of an image of any size. They are made as they are asked for, row by row.

    Attributes:
        size: (H, W).
        georeference: of the image, as `formats.rasters` writes it again.
        options: which results there are.
        segments: of the panoptic result, dicts with `id`, `isthing`, `category_id` and `area`.
        num_classes: K; 0 where there are neither scores nor objects.
        overview: (h, w, 3), uint8, RGB: every `step`-th pixel of the image.
        step: see above.
    """

    def __init__(self, kept: Kept, options: Options, georeference: Sequence[tuple[Any, ...]] = ()):
        self.size: Size = kept.grid.size
        self.georeference = georeference
        self.options = options
        self.overview, self.step = kept.overview, kept.step
        self.num_classes = kept.num_classes
        self.segments: list[dict[str, Any]] = []
        self._kept = kept
        self._ids = np.zeros(0, np.int32)  # of each object, its segment
        if kept.class_probs:
            self._group()

    def __enter__(self) -> "Mosaic":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete what is kept on the disk; afterwards there are no results any more."""
        self._kept.spool.close()

    def labels(self) -> Iterator[np.ndarray]:
        """Yield the semantic result from top to bottom, (h, W), int16, -1 for none."""
        spool, numbers = self._kept.spool, self._kept.labels
        tiles = enumerate(self._kept.grid)
        yield from self._rows(((tile, spool[numbers[i]]) for i, tile in tiles), "done", np.int16)

    def panoptic(self) -> Iterator[np.ndarray]:
        """Yield the ids of `segments` from top to bottom, (h, W), int32, 0 for void."""
        yield from self._rows(self._segment_maps(), "cell", np.int32)

    def instances(self) -> Iterator[Instance]:
        """Yield the instances, each when the last of its tiles has been passed."""
        waiting: dict[int, list[np.ndarray]] = {}
        left = np.bincount(self._groups).tolist()
        for tile, numbers in tiles_with_objects(self._kept):
            around = [(t, self._number(t)) for t in self._kept.grid.neighbours(tile)]
            for i in numbers:
                group = int(self._groups[i])
                left[group] -= 1
                if not len(self._wanted[group]):
                    continue
                others = [t for t, number in around if number in self._tiles_of[group]]
                waiting.setdefault(group, []).append(self._intervals(i, others))
                if not left[group]:
                    yield from self._instances_of(group, np.concatenate(waiting.pop(group)))

    def _group(self) -> None:
        """Decide what the groups of objects are."""
        kept, options = self._kept, self.options
        self._groups = kept.groups.numbers()
        facts, probs = np.concatenate(kept.facts), np.concatenate(kept.class_probs)
        count = int(self._groups.max(initial=-1)) + 1
        sums = _sum_by(self._groups, facts, count)
        area = np.maximum(sums[:, :1], 1e-6)
        means = _sum_by(self._groups, probs * facts[:, :1], count) / area
        is_seen = sums[:, 0] > 0
        self._tiles_of = self._find_tiles(count)
        alone = np.array([len(tiles) == 1 for tiles in self._tiles_of], bool)
        is_seen &= ~alone | (sums[:, 3] >= _MIN_OWN * sums[:, 0])
        self._scores = means[:, :-1] * (sums[:, 1:2] / area)
        is_thing = np.ones(means.shape[1] - 1, bool)
        if options.is_thing is not None:
            is_thing = options.is_thing
        allowed = is_thing if options.panoptic else np.ones_like(is_thing)
        wanted = (self._scores >= options.score_threshold) & allowed & is_seen[:, None]
        self._wanted = [np.flatnonzero(row) for row in wanted]
        self._number_segments(means, sums, is_thing, is_seen)

    def _number_segments(
        self, means: np.ndarray, sums: np.ndarray, is_thing: np.ndarray, is_seen: np.ndarray
    ) -> None:
        """Merge the groups to segments as `PanopticMerger` does the queries of an image."""
        options, labels = self.options, means.argmax(1)
        keep = (labels < len(is_thing)) & (means.max(1) > options.object_mask_threshold)
        keep &= sums[:, 2:].min(1) > 0
        keep &= sums[:, 2] >= options.overlap_threshold * sums[:, 3]
        numbers, stuff = np.zeros(len(means), np.int32), dict[int, int]()
        for group in np.flatnonzero(keep):
            label = int(labels[group])
            if is_thing[label] and not is_seen[group]:
                continue
            number = 0 if is_thing[label] else stuff.get(label, 0)
            if not number:
                number = len(self.segments) + 1
                kind = {"isthing": bool(is_thing[label]), "category_id": label}
                self.segments.append({"id": number, **kind, "area": 0})
                if not is_thing[label]:
                    stuff[label] = number
            numbers[group] = number
            self.segments[number - 1]["area"] += int(sums[group, 4])
        self._ids = numbers[self._groups]

    def _find_tiles(self, count: int) -> list[set[int]]:
        """Return the numbers of the tiles that each group has objects in."""
        tiles: list[set[int]] = [set() for _ in range(count)]
        for tile, numbers in tiles_with_objects(self._kept):
            for i in numbers:
                tiles[self._groups[i]].add(self._number(tile))
        return tiles

    def _number(self, tile: Tile) -> int:
        return tile.row * len(self._kept.grid.columns) + tile.column

    def _segment_maps(self) -> Iterator[tuple[Tile, np.ndarray]]:
        """Yield the ids of each tile's cell."""
        for i, (tile, numbers) in enumerate(tiles_with_objects(self._kept)):
            table = np.zeros(len(numbers) + 1, np.int32)
            table[:-1] = self._ids[numbers.start : numbers.stop]
            yield tile, table[self._kept.spool[self._kept.winners[i]]]

    def _rows(
        self, parts: Iterator[tuple[Tile, np.ndarray]], kind: str, dtype: type[np.generic]
    ) -> Iterator[np.ndarray]:
        """Yield the rows that parts of tiles make, `Span.cell` or `Span.done` of each."""
        last = len(self._kept.grid.columns) - 1
        for tile, part in parts:
            if tile.column == 0:
                band = np.zeros((len(part), self.size[1]), dtype)
            band[:, getattr(tile.x, kind)] = part
            if tile.column == last:
                yield band

    def _intervals(self, i: int, others: Sequence[Tile]) -> np.ndarray:
        """Return the runs of object i, (R, 2), as places down the columns of the image, without
        what other tiles that see the object know better."""
        y, x, height, width = self._kept.boxes[i]
        if not height:
            return np.zeros((0, 2), np.int64)
        bits = self._kept.spool[self._kept.masks[i]]
        mask = np.unpackbits(bits, count=height * width).reshape(height, width)
        for tile in others:
            rows, columns = tile.y.cell, tile.x.cell
            mask[
                max(rows.start - y, 0) : max(rows.stop - y, 0),
                max(columns.start - x, 0) : max(columns.stop - x, 0),
            ] = 0
        lines = np.zeros((width, height + 2), np.int8)
        lines[:, 1:-1] = mask.T
        steps = np.diff(lines, axis=1)
        corner, places = np.array([x, y]), np.array([self.size[0], 1])
        ends = [(np.argwhere(steps == sign) + corner) @ places for sign in (1, -1)]
        return np.stack(ends, 1)

    def _instances_of(self, group: int, intervals: np.ndarray) -> Iterator[Instance]:
        if not len(intervals):
            return
        rle, box = from_intervals(intervals, *self.size)
        for label in self._wanted[group].tolist():
            yield Instance(label, float(self._scores[group, label]), box, rle)


def _sum_by(groups: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the sums (count, C) of the rows of values (N, C) that belong to each group."""
    columns = [np.bincount(groups, column, count) for column in values.T]
    return np.stack(columns, 1)


def predict_mosaic(
    raster: Raster,
    tiling: Tiling,
    predict: Predict,
    options: Options,
    on_tiles: OnTiles = no_progress,
) -> Mosaic:
    """Predict an image in tiles.

    Args:
        raster: the image.
        tiling: how it is cut.
        predict: what the model makes of windows (h, w, 3), uint8, RGB, of one size.
        options: the results wanted.
        on_tiles: is called with the number of tiles just done and of all.

    Raises:
        OSError: the raster cannot be read, or the disk is full.
    """
    kept = keep_tiles(raster, tiling, predict, options, on_tiles)
    return Mosaic(kept, options, raster.georeference)
