"""From the predictions of tiles to what the results of the image are made of, on the disk."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np

from .blending import Blender
from .grid import Grid, Size, Tile, Tiling
from .linking import Groups, Strip, link
from .objects import TileObjects
from .spool import Spool

_OVERVIEW_SIDE = 2048  # longer side of the picture of the whole, in pixels


class Raster(Protocol):
    """An image that is read in windows; see `mask2former.formats.rasters`."""

    @property
    def size(self) -> Size:
        """(H, W)."""
        ...

    @property
    def georeference(self) -> Sequence[tuple[Any, ...]]:
        """Tags that say where on earth it is."""
        ...

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a window (h, w, 3), uint8, RGB."""
        ...


@dataclass(frozen=True)
class TilePrediction:
    """What a model predicts for a tile: either may be missing.

    Attributes:
        objects: of it.
        scores: semantic scores, (K, h, w).
    """

    objects: TileObjects | None = None
    scores: np.ndarray | None = None


Predict = Callable[[Sequence[np.ndarray]], Iterable[TilePrediction]]
OnTiles = Callable[[int, int], None]  # gets the number of tiles just done and of all


def no_progress(done: int, count: int) -> None:
    """Do nothing about tiles that are done."""


@dataclass(frozen=True)
class Options:
    """What results are wanted, and their thresholds.

    Attributes:
        semantic, panoptic, instances: the results wanted.
        is_thing: (K,), bool; None where all classes are things, as in models of instances.
        object_mask_threshold, overlap_threshold: of panoptic segments, see `PanopticMerger`.
        label_threshold: least fraction of a pixel's scores that its class has, in 0..1.
        score_threshold: instances of a lower score are left out, in 0..1.
        batch: tiles that pass the model together.
        folder: on whose disk what is in work is kept; None for that of temporary files.
    """

    semantic: bool
    panoptic: bool
    instances: bool
    is_thing: np.ndarray | None = None
    object_mask_threshold: float = 0.0
    overlap_threshold: float = 0.0
    label_threshold: float = 0.0
    score_threshold: float = 0.0
    batch: int = 8
    folder: str | os.PathLike[str] | None = None


@dataclass
class Kept:
    """What is known of all tiles: on the disk, apart from some numbers of each object.

    Attributes:
        grid: the tiles.
        spool: arrays of the others, by their numbers.
        labels: of each tile, classes over `done`.
        winners: of each tile, the object of each pixel over `cell`, counted in the tile.
        masks: of each tile, the parts of its objects' masks in their boxes, as bits, each from a
            new byte on.
        boxes: of each tile, (n, 4): y, x, height and width of these boxes in the image.
        firsts: of each tile, the number of its first object; then the number of all.
        facts: of each tile, (n, 5): area, sum of probabilities, and pixels won, own, and both, in
            the tile's cell.
        class_probs: of each tile, (n, K+1).
        groups: which objects are one.
        overview: (h, w, 3), every `step`-th pixel of the image.
        num_classes: K.
    """

    grid: Grid
    spool: Spool
    overview: np.ndarray
    step: int
    num_classes: int = 0
    labels: list[int] = field(default_factory=list)
    winners: list[int] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    firsts: list[int] = field(default_factory=lambda: [0])
    facts: list[np.ndarray] = field(default_factory=list)
    class_probs: list[np.ndarray] = field(default_factory=list)
    groups: Groups = field(default_factory=Groups)


def keep_tiles(
    raster: Raster,
    tiling: Tiling,
    predict: Predict,
    options: Options,
    on_tiles: OnTiles = no_progress,
) -> Kept:
    """Predict all tiles, link their objects, and keep what the results are made of.

    Args:
        on_tiles: is called with the number of tiles just done and of all.

    Raises:
        OSError: the raster cannot be read, or the disk is full.
    """
    grid = Grid(raster.size, tiling)
    step = -(-max(grid.size) // _OVERVIEW_SIDE)
    shape = tuple(-(-side // step) for side in grid.size)
    kept = Kept(grid, Spool(options.folder), np.zeros((*shape, 3), np.uint8), step)
    try:
        joiner = _Joiner(kept, options)
        tiles = iter(grid)
        while batch := list(islice(tiles, options.batch)):
            windows = [raster.read(t.y.predicted, t.x.predicted) for t in batch]
            for tile, window, prediction in zip(batch, windows, predict(windows), strict=True):
                joiner.add(tile, window, prediction)
            on_tiles(len(batch), len(grid))
    except BaseException:
        kept.spool.close()
        raise
    return kept


class _Joiner:
    """Take in tiles in the order of the grid."""

    def __init__(self, kept: Kept, options: Options):
        self._kept = kept
        self._is_thing = options.is_thing
        self._blender = Blender(kept.grid, options.label_threshold)
        self._left: tuple[int, Strip] | None = None  # number of the first object, and the strip
        self._above: list[tuple[int, Strip]] = []  # of each tile of the row above
        self._below: list[tuple[int, Strip]] = []

    def add(self, tile: Tile, window: np.ndarray, prediction: TilePrediction) -> None:
        """Take in the next tile, its pixels, and what is predicted for it."""
        kept = self._kept
        _set_every(kept.overview, kept.step, tile, window)
        if prediction.scores is not None:
            kept.num_classes = len(prediction.scores)
            labels = self._blender.add(tile, prediction.scores)
            kept.labels.append(kept.spool.add(labels.astype(np.int16)))
        if prediction.objects is not None:
            kept.num_classes = prediction.objects.class_probs.shape[1] - 1
            self._link(tile, prediction.objects)
            self._keep(tile, prediction.objects)

    def _link(self, tile: Tile, objects: TileObjects) -> None:
        if tile.column == 0:
            self._left, self._above, self._below = None, self._below, []
        first = len(self._kept.groups)
        self._kept.groups.add(len(objects))
        y, x = tile.y, tile.x
        if self._left is not None:
            shared = slice(x.begin, max(x.last_stop, x.begin))
            self._join(self._left, (first, _strip(tile, objects, y.used, shared, -1, 0)))
        if self._above:
            shared = slice(y.begin, max(y.last_stop, y.begin))
            strip = _strip(tile, objects, shared, x.used, -2, 0)
            self._join(self._above[tile.column], (first, strip))
        right, below = slice(x.next_begin, x.stop), slice(y.next_begin, y.stop)
        self._left = (first, _strip(tile, objects, y.used, right, -1, -1))
        self._below.append((first, _strip(tile, objects, below, x.used, -2, -1)))

    def _join(self, first: tuple[int, Strip], second: tuple[int, Strip]) -> None:
        indices = [self._things(strip) for _, strip in (first, second)]
        strips = [strip.only(index) for (_, strip), index in zip((first, second), indices)]
        for i, j in link(*strips):
            self._kept.groups.join(first[0] + int(indices[0][i]), second[0] + int(indices[1][j]))

    def _things(self, strip: Strip) -> np.ndarray:
        """Return the objects that are linked: areas of stuff have their class from each tile."""
        if self._is_thing is None:
            return np.arange(len(strip.masks))
        return np.flatnonzero(self._is_thing[strip.class_probs[:, :-1].argmax(1)])

    def _keep(self, tile: Tile, objects: TileObjects) -> None:
        kept, count = self._kept, len(objects)
        used = tile.local(tile.y.used, tile.x.used)
        cell = tile.local(tile.y.cell, tile.x.cell)
        winner = objects.winner[cell]
        facts = np.zeros((count, 5))
        facts[:, 0] = objects.masks.sum((1, 2))
        facts[:, 1] = objects.totals
        facts[:, 2] = np.bincount(objects.best[cell].ravel(), minlength=count)[:count]
        facts[:, 3] = objects.masks[(slice(None), *cell)].sum((1, 2))
        facts[:, 4] = np.bincount(winner.ravel(), minlength=count)[:count]
        masks = objects.masks[(slice(None), *used)]
        boxes = np.array([_box(mask) for mask in masks], np.int32).reshape(-1, 4)
        parts = [m[y : y + h, x : x + w] for m, (y, x, h, w) in zip(masks, boxes.tolist())]
        bits = np.concatenate([np.zeros(0, np.uint8), *map(np.packbits, parts)])
        kept.masks.append(kept.spool.add(bits))
        kept.boxes.append(boxes + np.array([tile.y.begin, tile.x.begin, 0, 0], np.int32))
        kept.winners.append(kept.spool.add(winner))
        kept.facts.append(facts)
        kept.class_probs.append(objects.class_probs)
        kept.firsts.append(kept.firsts[-1] + count)


def _strip(
    tile: Tile, objects: TileObjects, rows: slice, columns: slice, axis: int, line: int
) -> Strip:
    """Return what a tile has in a part of the image.

    Args:
        axis: across the strip, -1 for columns or -2 for rows.
        line: which of these lines is the tile's border, 0 or -1.
    """
    masks = objects.masks[(slice(None), *tile.local(rows, columns))]
    cut = masks.take(line, axis).any(1) if masks.size else np.zeros(len(masks), bool)
    return Strip(masks.copy(), objects.class_probs, cut)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return y, x, height and width of the box of a mask; zeros where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return 0, 0, 0, 0
    y, x = int(rows[0]), int(columns[0])
    return y, x, int(rows[-1]) + 1 - y, int(columns[-1]) + 1 - x


def _set_every(overview: np.ndarray, step: int, tile: Tile, window: np.ndarray) -> None:
    """Put every `step`-th pixel of a tile's cell into the overview."""
    y, x = (-(-side.own // step) for side in (tile.y, tile.x))
    rows, columns = tile.local(slice(y * step, tile.y.own_stop), slice(x * step, tile.x.own_stop))
    part = window[rows, columns][::step, ::step]
    overview[y : y + part.shape[0], x : x + part.shape[1]] = part


def tiles_with_objects(kept: Kept) -> Iterator[tuple[Tile, range]]:
    """Yield the tiles with the numbers of their objects."""
    for tile, first, last in zip(kept.grid, kept.firsts, kept.firsts[1:]):
        yield tile, range(first, last)
