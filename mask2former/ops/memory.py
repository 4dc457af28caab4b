"""Memory for large results."""

import ctypes
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .recording import is_recorded

# Bytes that make a trim pay: what follows has to ask for memory anew.
_MIN_BYTES = 256 * 2**20  # of a result
_MIN_HELD = 32 * 2**20  # of what goes from a stage of a network to the next
# glibc's mallopt: from how many bytes on memory is mapped anew, 32 MiB at most, and how many free
# ones at its end it keeps.
_MAP_LARGE, _MAP_LITTLE = (-3, 8 * 2**20), (-3, 32 * 2**20)
_KEEP_FREE = (-1, 128 * 2**20)


def empty_large(
    *size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Return a tensor as `torch.empty` does, after free memory has been given back.

    A process keeps much of what it frees, and a result of hundreds of megabytes would come on top:
    the peak of an image of 800x1216 would be 1.01 GB instead of 0.68 GB.
    """
    tensor = torch.empty(size, dtype=dtype, device=device)
    if tensor.device.type == "cpu" and tensor.nbytes >= _MIN_BYTES:
        _trim()(0)
    return tensor


class OneUse(dict[str, Tensor]):
    """Tensors by name that the caller needs no more: who has used one may take it out, and so free
    its memory before the call ends."""


class Buffers(dict[str, Tensor]):
    """Tensors by name that one layer after the other overwrites.

    Fresh memory costs a page fault for every 4 kB, and tensors that come and go in turn leave gaps
    that the next ones do not fit into.
    """

    def of(self, name: str, like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a tensor, on the device of another, of any content."""
        found = self.get(name)
        if found is None or (found.shape, found.dtype) != (tuple(shape), dtype):
            found = self[name] = like.new_empty(shape, dtype=dtype)
        return found


def give_back(held: Iterable[Tensor]) -> None:
    """Give back the memory that a stage of a network has freed, in eval on a CPU.

    A process keeps it in pieces that the next stage often cannot use: the peak of an R50 model at
    800x1216 would be 0.65 GB instead of 0.48 GB.

    Args:
        held: what the stage returns; where that is little, little is free, and nothing is done.
    """
    tensors = list(held)
    if is_recorded() or torch.is_grad_enabled():
        return
    if sum(t.nbytes for t in tensors if t.device.type == "cpu") >= _MIN_HELD:
        _trim()(0)


def keep_freed_memory() -> None:
    """Let this process use the memory again that it has freed, instead of asking for new pages.

    For processes that run one network many times: 3 % of the time of images of 128x128. What large
    results need is given back all the same, by the functions above.
    """
    mallopt = _of_glibc("mallopt")
    for option, value in (_MAP_LITTLE, _KEEP_FREE):
        mallopt(option, value)


def return_large_memory() -> None:
    """Let this process give memory of 8 MiB and more back as soon as it is free.

    Left alone, glibc keeps ever larger pieces, and in which of them the next tensors fit is chance:
    the peak of an R50 model at 800x1216 was 0.29 to 0.35 GB, and is 0.27 GB in as much time.
    """
    _of_glibc("mallopt")(*_MAP_LARGE)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], object]:
    return _of_glibc("malloc_trim")


def _of_glibc(name: str) -> Callable[..., object]:
    """Return a function of glibc; with other C libraries one that does nothing."""
    if not sys.platform.startswith("linux"):
        return lambda *args: None
    return getattr(ctypes.CDLL(None), name, lambda *args: None)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory left, on a GPU or for the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
