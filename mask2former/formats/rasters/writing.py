"""Maps of any size as tiled TIFF, row by row."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import PathLike, atomic_path
from .package import import_tifffile

_SIDE = 512  # of a tile of the file, in pixels
_BIG = 2**31  # bytes before compression from which on offsets have 64 bits


def write_tiff(
    path: PathLike,
    bands: Iterable[np.ndarray],
    size: tuple[int, int],
    dtype: Any,
    georeference: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Write a map atomically as a compressed tiled TIFF, and make its folder.

    Args:
        bands: (h, W) each, from top to bottom; together (H, W). No more of them than tiles are
            high is in memory.
        size: (H, W).
        dtype: of the file, such as uint8.
        georeference: tags that say where on earth it is; see `open_raster`.

    Raises:
        OSError: it cannot be written; there is no file then.
        MissingPackageError: tifffile is missing.
    """
    tifffile, kind = import_tifffile(), np.dtype(dtype)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_big = size[0] * size[1] * kind.itemsize >= _BIG
    with atomic_path(path) as part, tifffile.TiffWriter(part, bigtiff=is_big) as writer:
        writer.write(
            _tiles(bands, kind),
            shape=size,
            dtype=kind,
            tile=(_SIDE, _SIDE),
            compression="zlib",
            photometric="minisblack",
            metadata=None,
            extratags=list(georeference),
        )


def _tiles(bands: Iterable[np.ndarray], kind: np.dtype[Any]) -> Iterator[np.ndarray]:
    """Yield the tiles of the file row by row, those at the end filled up with zeros."""
    for rows in _rows_of(bands, _SIDE):
        for x in range(0, rows.shape[1], _SIDE):
            part = rows[:, x : x + _SIDE]
            tile = np.zeros((_SIDE, _SIDE), kind)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _rows_of(bands: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Yield the same rows, so many at a time."""
    waiting: list[np.ndarray] = []
    for band in bands:
        waiting.append(band)
        if sum(map(len, waiting)) < height:
            continue
        rows = np.concatenate(waiting)
        whole = len(rows) // height * height
        yield from np.split(rows[:whole], whole // height)
        waiting = [rows[whole:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)
