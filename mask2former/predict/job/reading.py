"""Inputs to what the model takes, ahead of it in other processes, and in batches of one canvas."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch.utils.data import DataLoader

from ...data.workers import WatchedLoader, WorkerMapper
from ...modeling.meta_arch.batching import canvas_size
from ..image import Predictor
from ..tiled import TiledPredictor
from .items import IMAGE, UNREADABLE, Item
from .settings import is_for_video

# Pixels of all canvases of a batch: larger ones gain nothing by it, and take memory.
_MAX_PIXELS = {"cpu": 2**20}
_MAX_PIXELS_ELSEWHERE = 2**23
_AHEAD = 8  # images that each process reads ahead


@dataclass(frozen=True)
class Read:
    """An item that was read.

    Attributes:
        shard, item: which.
        prepared: what the model takes: "image", "height" and "width"; None for videos, which are
            read frame by frame, for images that are read in tiles, and where there is an error.
        error: why the image cannot be read, or "".
    """

    shard: int
    item: Item
    prepared: dict[str, Any] | None = None
    error: str = ""


class _Reader:
    """Read images, as a dataset whose indices are what is to be read.

    Args:
        predictor: prepares images; its model is not used. A `TiledPredictor` reads them itself.
        root: where relative paths of items start.
    """

    def __init__(self, predictor: Predictor, root: Path):
        self._predictor = predictor
        self._root = root
        self._in_tiles = isinstance(predictor, TiledPredictor)
        self._for_video = is_for_video(predictor.cfg)
        self._mapper = WorkerMapper(self._read, predictor.cfg.INPUT.MAX_PIXELS)

    def __getitem__(self, place: tuple[int, Item]) -> Any:
        return self._mapper(place)

    def _read(self, place: tuple[int, Item]) -> Read:
        shard, item = place
        if item.kind == UNREADABLE:
            return Read(shard, item, error=item.error)
        if item.kind != IMAGE or self._in_tiles:
            return Read(shard, item)
        if self._for_video:
            return Read(shard, item, error="an image, but the model is one for video")
        if not item.member and _is_pipe(self._root / item.path):
            return Read(shard, item, error=f"{item.path}: a pipe or device, which may never end")
        try:
            return Read(shard, item, self._predictor.prepare(item.source(self._root)))
        except (OSError, ValueError, MemoryError) as error:
            return Read(shard, item, error=str(error) or type(error).__name__)


def read_items(
    places: Iterable[tuple[int, Item]], predictor: Predictor, root: Path, processes: int
) -> Iterator[Read]:
    """Yield items read, in their order.

    Args:
        places: shards and items, taken as they are needed.
        predictor: as for `_Reader`.
        root: where relative paths of items start.
        processes: that read ahead; 0 to read here.

    Raises:
        RuntimeError: a process died; says the cure.
    """
    loader = DataLoader(
        _Reader(predictor, root),
        batch_size=None,
        sampler=places,
        num_workers=processes,
        prefetch_factor=_AHEAD if processes else None,
        collate_fn=_as_it_is,
    )
    yield from WatchedLoader(loader, processes)


def _is_pipe(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _as_it_is(value: Any) -> Any:
    return value


class Batches:
    """Put the images of a shard together that have the same padded canvas.

    Padding is part of what a network sees, so each image passes it on the canvas that it has alone,
    and its results do not depend on the others.

    Args:
        model: says what canvases are multiples of.
        size: largest number of images in a batch.
    """

    def __init__(self, model: torch.nn.Module, cfg: CfgNode, size: int):
        self._model = model
        self._size = size
        device = torch.device(cfg.MODEL.DEVICE).type
        self._max_pixels = _MAX_PIXELS.get(device, _MAX_PIXELS_ELSEWHERE)
        self._waiting: dict[tuple[int, int], list[Read]] = {}

    def add(self, read: Read) -> list[Read]:
        """Take in an image; return a batch that is complete by it, or []."""
        canvas = canvas_size(self._model, read.prepared["image"])
        batch = self._waiting.setdefault(canvas, [])
        batch.append(read)
        limit = max(1, min(self._size, self._max_pixels // math.prod(canvas)))
        return self._waiting.pop(canvas) if len(batch) >= limit else []

    def rest(self) -> Iterator[list[Read]]:
        """Yield the batches that are left."""
        while self._waiting:
            yield self._waiting.pop(next(iter(self._waiting)))
