"""Small images that tests write."""

from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)  # 1 x 3
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> str:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return str(path)
