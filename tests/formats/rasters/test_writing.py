"""Tiled TIFF, row by row: as tifffile reads it, and nothing where it cannot be written."""

import errno

import numpy as np
import pytest

from mask2former.formats.rasters import write_tiff, writing

tifffile = pytest.importorskip("tifffile", reason="tifffile is missing: pip install tifffile")

MAP = np.random.default_rng(1).integers(0, 70000, (1200, 700)).astype(np.int32)


@pytest.mark.parametrize("heights", [(1200,), (1,) * 1200, (500, 12, 512, 176), (300,) * 4])
def test_what_is_written_is_read(heights, tmp_path):
    ends = np.cumsum(heights)
    bands = (MAP[end - height : end] for height, end in zip(heights, ends))
    write_tiff(tmp_path / "new" / "a.tif", bands, MAP.shape, np.int32)
    assert (tifffile.imread(tmp_path / "new" / "a.tif") == MAP).all()
    with tifffile.TiffFile(tmp_path / "new" / "a.tif") as file:
        page = file.pages[0]
        assert page.is_tiled and page.tile == (512, 512) and page.dtype == np.int32


def test_a_large_map_has_offsets_of_64_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_BIG", 100 * 700)
    for height, is_big in ((99, False), (100, True)):
        write_tiff(tmp_path / "a.tif", [MAP[:height]], (height, 700), np.uint8)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.is_bigtiff == is_big


def test_a_full_disk_leaves_nothing(tmp_path):
    def bands():
        yield MAP[:600]
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.tif").write_text("before")
    with pytest.raises(OSError, match="No space left"):
        write_tiff(tmp_path / "a.tif", bands(), MAP.shape, np.int32)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_text() == "before"
