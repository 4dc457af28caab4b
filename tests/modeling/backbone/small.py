"""What several tests of backbones use."""

from pathlib import Path
from typing import Any

import torch


def save(weights: Any, path: Path) -> str:
    """Write with torch.save; returns the path as text."""
    torch.save(weights, path)
    return str(path)
