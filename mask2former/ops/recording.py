"""Whether operations are recorded, and what is recorded in another form."""

from collections.abc import Sequence

import torch
from torch import Tensor


def is_recorded() -> bool:
    """Return whether a compiler, an exporter or a tracer records operations.

    These are to see PyTorch's own operators, not the alternatives that pay in eager mode.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def integers(values: Sequence[int]) -> Tensor:
    """Return int64 (n,) on the CPU; sizes that are symbols in an exported program stay symbols,
    which `torch.tensor` would freeze."""
    if all(type(value) is int for value in values):
        return torch.tensor(values, dtype=torch.int64)
    return torch.stack([torch.scalar_tensor(value, dtype=torch.int64) for value in values])
