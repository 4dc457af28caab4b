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

_LITTLE = 1e-3  # weight of what another tile knows better
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
        left = np.bincount(self._groups)
        for place, (tile, numbers) in enumerate(tiles_with_objects(self._kept)):
            around = [(t, self._number(t)) for t in self._kept.grid.neighbours(tile)]
            for i, (box, mask) in zip(numbers, self._masks(place)):
                group = int(self._groups[i])
                left[group] -= 1
                if not self._wanted[group].any():
                    continue
                tiles = self._tiles_of.get(group, ())
                others = [t for t, number in around if number in tiles]
                waiting.setdefault(group, []).append(self._intervals(box, mask, others))
                if not left[group]:
                    yield from self._instances_of(group, np.concatenate(waiting.pop(group)))

    def _masks(self, place: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield the boxes of a tile's objects, and their masks in them, uint8 of 0 and 1."""
        bits, first = self._kept.spool[self._kept.masks[place]], 0
        for box in self._kept.boxes[place].tolist():
            height, width = box[2:]
            last = first + -(-height * width // 8)
            mask = np.unpackbits(bits[first:last], count=height * width)
            yield box, mask.reshape(height, width)
            first = last

    def _group(self) -> None:
        """Decide what the groups of objects are."""
        kept, options = self._kept, self.options
        self._groups = kept.groups.numbers()
        facts, probs = np.concatenate(kept.facts), np.concatenate(kept.class_probs)
        count = int(self._groups.max(initial=-1)) + 1
        sums = _sum_by(self._groups, facts, count)
        # A part counts by what its tile knows best: what is cut off looks like something else.
        weights = facts[:, 3:4] + _LITTLE * facts[:, :1]
        means = _sum_by(self._groups, np.hstack([weights, probs * weights]), count)
        means = means[:, 1:] / np.maximum(means[:, :1], 1e-6)
        area = np.maximum(sums[:, :1], 1e-6)
        is_seen = sums[:, 0] > 0
        self._tiles_of = self._find_tiles()
        alone = np.ones(count, bool)
        alone[[group for group, tiles in self._tiles_of.items() if len(tiles) > 1]] = False
        is_seen &= ~alone | (sums[:, 3] >= _MIN_OWN * sums[:, 0])
        self._scores = means[:, :-1] * (sums[:, 1:2] / area)
        is_thing = np.ones(means.shape[1] - 1, bool)
        if options.is_thing is not None:
            is_thing = options.is_thing
        allowed = is_thing if options.panoptic else np.ones_like(is_thing)
        self._wanted = (self._scores >= options.score_threshold) & allowed & is_seen[:, None]
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

    def _find_tiles(self) -> dict[int, set[int]]:
        """Return the numbers of the tiles that groups of several objects have them in."""
        several = np.bincount(self._groups) > 1
        tiles: dict[int, set[int]] = {}
        for tile, numbers in tiles_with_objects(self._kept):
            for group in self._groups[numbers.start : numbers.stop].tolist():
                if several[group]:
                    tiles.setdefault(group, set()).add(self._number(tile))
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

    def _intervals(
        self, box: Sequence[int], mask: np.ndarray, others: Sequence[Tile]
    ) -> np.ndarray:
        """Return the runs of an object, (R, 2), as places down the columns of the image, without
        what other tiles that see the object know better.

        Args:
            box: y, x, height and width of what the mask (height, width) covers.
            others: the tiles.
        """
        y, x, height, width = box
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
        for label in np.flatnonzero(self._wanted[group]).tolist():
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
