"""Resizing with numpy: images as detectron2 does, maps as torch does, a few rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

Size = tuple[int, int]  # H, W in pixels

_PIXELS_PER_BLOCK = 2**19  # maps x rows x width that are made at a time, so that they stay in cache
_MIN_ROWS = 4
_COLUMNS_TOGETHER = 64  # of the output, which have few columns of the source in common


def shortest_edge(size: Size, min_size: int, max_size: int) -> Size:
    """Return the size to which detectron2's ResizeShortestEdge brings an image.

    Args:
        size: (H, W) of the image.
        min_size: of the shorter side, where the longer one allows it; 0 keeps the size.
        max_size: of the longer side.
    """
    if not min_size:
        return size
    scale = min_size / min(size)
    height, width = (min_size if side == min(size) else scale * side for side in size)
    if max(height, width) > max_size:
        scale = max_size / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize an image (H, W, 3), uint8, bilinearly with Pillow's filter, as detectron2 does."""
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


@dataclass(frozen=True)
class Canvas:
    """The sizes (H, W) that an image passes through.

    Attributes:
        padded: the batch's canvas, which predictions cover.
        image: the part of it, at its top left, that the image fills.
        output: the size wanted.
    """

    padded: Size
    image: Size
    output: Size


def nearest(maps: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return labels or masks (..., *output) of those over the canvas (..., *padded)."""
    rows, columns = (
        (2 * np.arange(output) + 1) * image // (2 * output)
        for image, output in zip(canvas.image, canvas.output)
    )
    return maps[..., rows[:, None], columns]


class Resized:
    """Maps over the canvas, brought to the size of the output as far as rows are read.

    Equal, up to rounding, to resizing bilinearly to the canvas without aligned corners, cropping to
    the image, and resizing again.

    Args:
        maps: (N, h, w), floating, or what has that shape and gives an array for `[:, rows]`.
        canvas: the sizes.
    """

    def __init__(self, maps: Any, canvas: Canvas):
        self.maps = maps
        height, width = maps.shape[1:]
        sides = (canvas.padded, canvas.image, canvas.output)
        self._rows = _weights(height, *(side[0] for side in sides))
        self._columns = _weights(width, *(side[1] for side in sides))
        self.shape = (maps.shape[0], *canvas.output)
        self._kept = np.zeros((maps.shape[0], 0, canvas.output[1]), np.float32)
        self._first = 0  # row of the source that is the first one kept

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """Return rows (N, rows, W), float32, for `[:, rows]`; forwards is fast."""
        start, stop, _ = index[1].indices(self.shape[1])
        used = np.flatnonzero(self._rows[start:stop].any(0))
        first, last = int(used[0]), int(used[-1]) + 1
        return np.matmul(self._rows[start:stop, first:last], self._source(first, last))

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield all rows in order, a few at a time: their slice of the output, and (N, rows, W)."""
        count, height, width = self.shape
        step = max(_MIN_ROWS, _PIXELS_PER_BLOCK // max(1, count * width))
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            yield rows, self[:, rows]

    def _source(self, first: int, last: int) -> np.ndarray:
        """Return rows of the source (N, last - first, W) whose columns are those of the output."""
        known = self._first + self._kept.shape[1]
        if not self._first <= first <= known:
            self._first, known = first, first
            self._kept = self._kept[:, :0]
        parts = [self._kept[:, first - self._first :]]
        if last > known:
            parts.append(self._resized_columns(self.maps[:, known:last]))
        self._kept = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        self._first = first
        return self._kept[:, : last - first]

    def _resized_columns(self, maps: np.ndarray) -> np.ndarray:
        count, rows, width = maps.shape
        lines = np.ascontiguousarray(maps, np.float32).reshape(-1, width)
        resized = np.empty((len(lines), self.shape[2]), np.float32)
        for start in range(0, self.shape[2], _COLUMNS_TOGETHER):
            weights = self._columns[start : start + _COLUMNS_TOGETHER]
            used = np.flatnonzero(weights.any(0))
            source = slice(used[0], used[-1] + 1)
            np.matmul(
                lines[:, source],
                weights[:, source].T,
                out=resized[:, start : start + _COLUMNS_TOGETHER],
            )
        return resized.reshape(count, rows, -1)


@lru_cache(maxsize=32)
def _weights(length: int, padded: int, image: int, output: int) -> np.ndarray:
    """Return how much each position of the output has of each of the source, (output, length)."""
    return _bilinear(image, output) @ _bilinear(length, padded)[:image]


def _bilinear(old: int, new: int) -> np.ndarray:
    """Return the weights (new, old) of torch's bilinear resizing without aligned corners."""
    scale = np.float32(old) / np.float32(new)
    places = np.maximum((np.arange(new, dtype=np.float32) + np.float32(0.5)) * scale - 0.5, 0)
    below = np.minimum(places.astype(np.int64), old - 1)
    above = np.minimum(below + 1, old - 1)
    fraction = places - below.astype(np.float32)
    weights = np.zeros((new, old), np.float32)
    np.add.at(weights, (np.arange(new), below), 1 - fraction)
    np.add.at(weights, (np.arange(new), above), fraction)
    return weights
