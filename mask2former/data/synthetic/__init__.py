"""The generated shapes dataset."""

from .writer import write_shapes

__all__ = ["write_shapes"]
