"""Whether operations are recorded, and what is recorded in another form."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def is_recorded() -> bool:
    """Return whether a compiler, an exporter or a tracer records operations.

    These are to see PyTorch's own operators, not the alternatives that pay in eager mode.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def integers(values: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Return int64 (n,) on a device, by default the CPU; sizes that are symbols in an exported
    program stay symbols, which `torch.tensor` would freeze.

    A GPU is not waited for, and gets the same numbers only once: while CUDA records a graph,
    nothing can be sent to it.
    """
    if not all(type(value) is int for value in values):
        numbers = [torch.scalar_tensor(v, dtype=torch.int64, device=device) for v in values]
        return torch.stack(numbers)
    if device is None or device.type == "cpu" or is_recorded():
        return torch.tensor(values, dtype=torch.int64, device=device)
    return _sent(tuple(values), device).clone()


@lru_cache(maxsize=256)
def _sent(values: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64).to(device, non_blocking=True)
