"""Whether somebody records what is computed."""

import torch


def is_recorded() -> bool:
    """Whether a compiler, an exporter or a tracer looks on.

    It is to see PyTorch's own operators, and none of the ways around them that pay in eager mode.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
