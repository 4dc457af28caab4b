"""TIFFs to read in windows, and what comes of that."""

import numpy as np
import pytest

tifffile = pytest.importorskip("tifffile", reason="tifffile is missing: pip install tifffile")

SHAPE = (75, 100, 3)
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, SHAPE, np.uint8)
DEEP = RANDOM.integers(0, 3000, SHAPE).astype(np.uint16)  # of 12 bits
RGB = {"photometric": "rgb"}
TILES = {"tile": (32, 48)}


def windows(raster):
    """Return the image put together from windows, read from top to bottom."""
    height, width = raster.size
    image = np.full((height, width, 3), 7, np.uint8)
    for y in range(0, height, 20):
        for x in range(0, width, 30):
            rows, columns = slice(y, min(y + 33, height)), slice(x, min(x + 41, width))
            image[rows, columns] = raster.read(rows, columns)
    return image


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **options)
    return path
