"""Arrays that wait on the disk, compressed, in a file that is gone when its user is."""

import os
import zlib
from tempfile import TemporaryFile
from typing import Any

import numpy as np


class Spool:
    """Keep arrays by number.

    Args:
        folder: on whose disk they are kept; None for that of temporary files.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this is)
        self._places: list[tuple[int, int, tuple[int, ...], np.dtype[Any]]] = []

    def add(self, array: np.ndarray) -> int:
        """Keep an array; return its number.

        Raises:
            OSError: the disk is full.
        """
        data = zlib.compress(np.ascontiguousarray(array).tobytes(), 1)
        place = self._file.seek(0, 2)
        self._file.write(data)
        self._places.append((place, len(data), array.shape, array.dtype))
        return len(self._places) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        """Return an array again."""
        place, length, shape, dtype = self._places[number]
        self._file.seek(place)
        return np.frombuffer(zlib.decompress(self._file.read(length)), dtype).reshape(shape)

    def close(self) -> None:
        """Forget all of them."""
        self._file.close()
