"""Whether operations are recorded."""

import torch


def is_recorded() -> bool:
    """Return whether a compiler, an exporter or a tracer records operations.

    These are to see PyTorch's own operators, not the alternatives that pay in eager mode.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
