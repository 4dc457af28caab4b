"""What a pickle's arrays and settings are built as, and how they become plain values."""

import math
import re
import sys
import warnings
from typing import Any, Literal, Self

import numpy as np
import torch

from ...errors import UserError
from .pickle_limits import UnsafePickleError, check_shape

_CODE = r"[biufcSU]\d{1,9}|\?|O\d?"


class Dtype:
    """Stand in for numpy's dtype: a code like "f4", and a byte order set afterwards."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = text(code)
        self.order = "="
        if not isinstance(self.code, str) or not re.fullmatch(_CODE, self.code):
            shown = repr(self.code) if isinstance(self.code, str) else type(code).__name__
            raise UnsafePickleError(f"an array of type {shown:.40}")

    def __setstate__(self, state: tuple) -> None:
        order = text(state[1])
        if order not in ("<", ">", "=", "|"):
            raise UnsafePickleError("an array of another byte order than numpy's")
        self.order = order

    def numbers(self, data: Any) -> np.ndarray:
        """Return the 1-D array in native byte order whose bytes are ``data``."""
        dtype = np.dtype(self.code).newbyteorder(self.order)
        values = np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)
        return values.astype(dtype.newbyteorder("="), copy=False)


class Array:
    """Stand in for a numpy array; `value` is a tensor, or a list where it held no numbers."""

    value: Any = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, data = state[-4:]
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(
        self, data: Any, dtype: Dtype, shape: tuple[int, ...], order: Literal["C", "F"]
    ) -> Self:
        if dtype.code.startswith("O"):
            self.value = data  # a list, unpickled under the same rules
            return self
        values = dtype.numbers(data)
        check_shape(shape)
        if math.prod(shape) != values.size:
            raise UserError(f"an array of shape {shape} with {values.size} numbers")
        is_text = values.dtype.kind == "U" and values.nbytes > 0
        if is_text and values.view(np.uint32).max() > sys.maxunicode:
            raise UserError("an array of text with characters that there are not")
        if values.dtype.kind in "SU":  # of no length, or with many axes, it would unfold
            values = values.reshape(shape if len(shape) <= 2 and values.size else -1, order=order)
            self.value = values.tolist()
            return self
        self.value = _from_numpy(values.reshape(shape, order=order))
        return self


class Settings(dict):
    """Stand in for a Namespace or CfgNode."""

    def __new__(cls, *_: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):  # a tensor may claim more items than fit in memory
            raise UnsafePickleError(f"settings of a {type(state).__name__}")
        self.update(state)


def plain(value: Any, seen: dict[int, tuple] | None = None) -> Any:
    """Return ``value`` with stand-ins resolved and Python 2's strings decoded.

    Dicts and lists change in place, so that a state_dict keeps its ``_metadata``. ``seen`` maps
    ids to what was there and what it became: nothing is walked twice, and no id is used again.
    """
    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, list | dict):
        result: Any = {} if isinstance(value, Settings) else value
        seen[id(value)] = (value, result)  # before its items, as it may hold itself
        if isinstance(value, list):
            result[:] = [plain(item, seen) for item in value]
        else:
            items = [(plain(key, seen), plain(item, seen)) for key, item in value.items()]
            result.clear()
            result.update(items)
        return result
    result = _plain_leaf(value, seen)
    seen[id(value)] = (value, result)
    return result


def _plain_leaf(value: Any, seen: dict[int, tuple]) -> Any:
    if isinstance(value, Array):
        return plain(value.value, seen)
    if isinstance(value, tuple | set | frozenset):
        return type(value)(plain(item, seen) for item in value)
    if isinstance(value, Dtype):
        return value.code
    if callable(value):  # named but not called
        return getattr(value, "__name__", str(value))
    return text(value)


def text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes | bytearray) else value


def _from_numpy(values: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():  # bytes are read-only, but nobody else sees these
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(values)
