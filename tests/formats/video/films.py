"""Short films whose frames say which they are."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from mask2former.formats.video.reading import Frame
from mask2former.formats.video.writing import open_writer

RATE = Fraction(12)
SIZE = (48, 64)


def picture(t: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The left half says by its brightness which frame it is; the right half is red."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2] = 20 + 20 * t
    image[:, size[1] // 2 :, 0] = 200
    return image


def number(image: np.ndarray) -> int:
    """Which frame a picture was before it was compressed."""
    return round((float(image[:, 2 : image.shape[1] // 2 - 8].mean()) - 20) / 20)


def write(path: Path, frames: int = 8, size=SIZE, times=None, rate: Fraction = RATE) -> Path:
    writer = open_writer(path, rate)
    for t in range(frames):
        seconds = t / float(rate) if times is None else times[t]
        writer.write(picture(t, size), Frame(picture(t, size), seconds, f"frame {t}"))
    assert writer.close() == path
    return path
