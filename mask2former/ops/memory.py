"""Memory for large results, and for what is computed again and again."""

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

# Bytes of a result that make a trim pay: what follows has to ask for memory anew.
_MIN_BYTES = 256 * 2**20


def empty_large(
    *size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Return a tensor as `torch.empty` does, after free memory has been given back.

    A process keeps much of what it frees. Without this a result of hundreds of megabytes would come
    on top of that, and the peak be higher by it.
    """
    tensor = torch.empty(size, dtype=dtype, device=device)
    if tensor.device.type == "cpu" and tensor.nbytes >= _MIN_BYTES:
        _trim()(0)
    return tensor


class Scratch:
    """Memory for values that are computed anew in every round of a loop."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def empty(self, name: str, size: Sequence[int], like: Tensor) -> Tensor:
        """Return a tensor of a size, with the type and device of another one.

        It takes the place of the one of that name that was given before. Only a larger one, or
        one of another type or device, takes new memory.
        """
        count = math.prod(size)
        flat = self._flat.get(name)
        kind = like.dtype, like.device
        if flat is None or len(flat) < count or (flat.dtype, flat.device) != kind:
            flat = self._flat[name] = like.new_empty(count)
        return flat[:count].view(*size)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], object]:
    """Return glibc's malloc_trim; with other C libraries a function that does nothing."""
    if not sys.platform.startswith("linux"):
        return lambda *args: None
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda *args: None)
