"""Multi-scale deformable attention: one function, three implementations, and the choice of one."""

from .dispatch import (
    ENVIRONMENT_VARIABLE,
    IMPLEMENTATIONS,
    deformable_attention,
    deformable_attention_grid_sample,
    use_implementation,
)

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "IMPLEMENTATIONS",
    "deformable_attention",
    "deformable_attention_grid_sample",
    "use_implementation",
]
