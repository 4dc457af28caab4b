"""What a training did, on one page: ``python -m mask2former.engine.report DIR [DIR ...]``."""

from .writing import write_report

__all__ = ["write_report"]
