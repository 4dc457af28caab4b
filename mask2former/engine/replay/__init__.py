"""Steps whose loss was not finite, repeated: ``python -m mask2former.engine.replay DIR``."""

from .saving import save_failure

__all__ = ["save_failure"]
