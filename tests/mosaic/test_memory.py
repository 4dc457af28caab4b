"""Memory of a mosaic: that of rows of tiles, not of the image; what waits on the disk is small."""

import tracemalloc

import numpy as np

from mask2former.mosaic import Options, Tiling, predict_mosaic
from tests.mosaic.seen import model

TILING = Tiling(256, 64)
SPACING = 200  # between objects, in pixels


class Endless:
    """Boxes as far as one looks, made as they are asked for."""

    georeference = ()

    def __init__(self, height: int, width: int):
        self.size = (height, width)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)
        inside = (y % SPACING < 60) & (x % SPACING < 60)
        number = y // SPACING % 5 * 5 + x // SPACING % 5 + 1
        pixels = np.zeros((len(y), len(x), 3), np.uint8)
        pixels[..., 0] = np.where(inside, number, 0)
        return pixels


def peak(height: int, width: int) -> tuple[int, int, int]:
    """Return the peak of all results in bytes, the number of instances, and bytes on the disk."""
    options = Options(True, True, True, is_thing=np.array([True, True]), score_threshold=0.5)
    tracemalloc.start()
    try:
        with predict_mosaic(Endless(height, width), TILING, model(2), options) as mosaic:
            rows = sum(len(band) for band in mosaic.panoptic())
            rows += sum(len(band) for band in mosaic.labels())
            assert rows == 2 * height
            count = sum(1 for _ in mosaic.instances())
            return tracemalloc.get_traced_memory()[1], count, mosaic._kept.spool._file.tell()
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_image():
    small, count, _ = peak(1000, 600)
    assert count == 15
    large, count, disk = peak(6000, 600)
    assert count == 90
    assert large < small + 2_000_000  # of which the overview has 1.2 million bytes
    assert disk < 6000 * 600 / 20
