"""Memory for large results."""

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

_WORTHWHILE = 16 * 2**20  # bytes


def empty_large(
    *size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """A tensor as `torch.empty` gives it, for which memory that is free is handed back first.

    A process keeps much of what it frees. Without this a result of hundreds of megabytes would come
    on top of that, and the peak be higher by it.
    """
    tensor = torch.empty(size, dtype=dtype, device=device)
    if tensor.device.type == "cpu" and tensor.nbytes >= _WORTHWHILE:
        _trim()(0)
    return tensor


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], object]:
    """glibc's malloc_trim; with other C libraries a function that does nothing."""
    if not sys.platform.startswith("linux"):
        return lambda *args: None
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda *args: None)
