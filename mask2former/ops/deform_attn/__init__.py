"""Multi-scale deformable attention: one function, three implementations, and the choice of one."""

from .dispatch import (
    ENVIRONMENT_VARIABLE,
    IMPLEMENTATIONS,
    deformable_attention,
    use_implementation,
)
from .grid_sample import deformable_attention_grid_sample

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "IMPLEMENTATIONS",
    "deformable_attention",
    "deformable_attention_grid_sample",
    "use_implementation",
]
