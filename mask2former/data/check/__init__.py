"""Check datasets before training: ``python -m mask2former.data.check CONFIG_OR_DATASET ...``."""

from .command import main

__all__ = ["main"]
