"""Memory for large results."""

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

_HUGE_PAGE = 2 * 2**20  # bytes
_WORTHWHILE = 8 * _HUGE_PAGE
_MADV_HUGEPAGE = 14


def empty_large(
    *size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """A tensor as `torch.empty` gives it, in huge pages where that can be had.

    The first write to fresh memory costs a page fault every 4 kB, which for results of hundreds of
    megabytes takes longer than to compute them. In huge pages there are 512 times fewer.
    """
    tensor = torch.empty(size, dtype=dtype, device=device)
    if tensor.device.type == "cpu" and tensor.nbytes >= _WORTHWHILE:
        first = -(-tensor.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
        last = (tensor.data_ptr() + tensor.nbytes) // _HUGE_PAGE * _HUGE_PAGE
        _advise()(first, last - first, _MADV_HUGEPAGE)  # advice: nothing depends on the answer
    return tensor


@lru_cache(maxsize=1)
def _advise() -> Callable[[int, int, int], object]:
    """Linux's madvise; elsewhere a function that does nothing."""
    if not sys.platform.startswith("linux"):
        return lambda *args: None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise
