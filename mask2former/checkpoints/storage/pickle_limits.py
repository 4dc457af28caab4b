"""Bounds of what reading a pickle costs: the size of its file sets them, not what it claims.

A few bytes can name a large object again and again, nest objects so that a walk meets them 2^60
times, or lay a tensor of any size over one number.
"""

import io
import itertools
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO, Any

from ...errors import UserError

_FREE = 1 << 20  # bytes that any pickle may spend
_FACTOR = 4  # bytes spent for each that is read: arrays of strings become lists
_MAX_AXES = 64  # as numpy
_EXPANDED = 1_000_000  # values when each is counted as often as it occurs
_CYCLES = 16
_LONG = 32  # letters of a text that count as one value


class UnsafePickleError(UserError):
    """A pickle asks for something that is no array, tensor or plain container."""


class Source:
    """A file that is read no further than its end, whatever length is asked for.

    A plain file takes memory for all that is asked for before it reads.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.used = 0
        self._size: int | None = None  # in memory, or inside an archive
        with suppress(io.UnsupportedOperation):
            self._size = os.fstat(file.fileno()).st_size - file.tell()

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end."""
        if self._size is not None:
            size = min(size, max(0, self._size - self.used))
        data = self._file.read(size)
        self.used += len(data)
        return data

    def readline(self) -> bytes:
        """Return the bytes up to the end of a line."""
        data = self._file.readline()
        self.used += len(data)
        return data


class Budget:
    """What calls may copy and claim: what a pickle holds once, it can use once, more or less."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._storages: set[str] = set()
        self._stored = self._spent = 0

    def add_storage(self, key: str, size: int) -> None:
        """Count the bytes of a storage, which lie outside of the pickle."""
        if key not in self._storages:
            self._storages.add(key)
            self._stored += size

    def spend(self, amount: int) -> None:
        """Count bytes or items.

        Raises:
            UnsafePickleError: more than there are.
        """
        self._spent += amount
        if self._spent > _FREE + _FACTOR * (self._source.used + self._stored):
            raise UnsafePickleError("many copies of what it has once")

    def spend_view(self, size: Sequence[int], itemsize: int) -> None:
        """Count the bytes of a tensor's numbers, whether they overlap or not."""
        check_shape(size)
        self.spend(math.prod(size) * itemsize)


def check_shape(shape: Any) -> None:
    """Raise UnsafePickleError where a shape is no short tuple of 64-bit numbers from 0 on."""
    if not isinstance(shape, tuple | list) or len(shape) > _MAX_AXES:
        raise UnsafePickleError(f"a shape of type {type(shape).__name__}")
    if not all(isinstance(length, int) and 0 <= length < 1 << 63 for length in shape):
        raise UnsafePickleError("a shape that is none")


def check_sharing(value: Any) -> None:
    """Check that whoever compares, copies or prints a value comes to an end.

    Args:
        value: nested less deeply than Python recurses.

    Raises:
        UnsafePickleError: it would be many times as large if each part were written out as often
            as it occurs, or many parts hold themselves.
    """
    measure = _Measure()
    expanded = measure(value)
    if measure.cycles > _CYCLES or expanded > max(_EXPANDED, _FACTOR * measure.once):
        raise UnsafePickleError("containers that hold one another over and over")


class _Measure:
    """Count the values in a value, each as often as it occurs; and once, in the attribute."""

    def __init__(self) -> None:
        self.once = self.cycles = 0
        self._sizes: dict[int, int] = {}  # 0 while the parts are being counted

    def __call__(self, value: Any) -> int:
        is_text = isinstance(value, str | bytes) and len(value) >= _LONG
        if not is_text and not isinstance(value, list | tuple | dict | set | frozenset):
            self.once += 1
            return 1
        size = self._sizes.get(id(value))
        if size is None:
            self._sizes[id(value)] = 0
            size = len(value) // _LONG if is_text else 1 + sum(map(self, _parts(value)))
            self._sizes[id(value)] = size
            self.once += size if is_text else 1
        elif not size:
            self.cycles += 1
        return size


def _parts(value: Any) -> Iterable[Any]:
    return itertools.chain(value, value.values()) if isinstance(value, dict) else value
