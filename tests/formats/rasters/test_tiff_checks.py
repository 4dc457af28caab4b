"""TIFFs whose tags lie: errors in time, however they are put together."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mask2former.errors import UserError
from mask2former.formats.rasters import open_raster

tifffile = pytest.importorskip("tifffile", reason="tifffile is missing: pip install tifffile")

PIXELS = np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)
SHORT, LONG, RATIONAL = 3, 4, 5  # types of tags
WIDTH, HEIGHT, SAMPLES, ROWS, PLANES, TILE_WIDTH, NO_DATA = 256, 257, 277, 278, 284, 322, 42113


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, photometric="rgb", **options)
    return path


def change(path: Path, code: int, value: int, kind: int = LONG) -> None:
    """Write a tag of a classic little-endian TIFF anew, with one value."""
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    places = range(first + 2, first + 2 + 12 * count, 12)
    (at,) = (place for place in places if struct.unpack_from("<H", data, place)[0] == code)
    struct.pack_into("<HHII", data, at, code, kind, 1, value)
    path.write_bytes(data)


def read_all(path: Path) -> None:
    raster = open_raster(path)
    height, width = raster.size
    for y in range(0, height, 16):
        raster.read(slice(y, min(y + 16, height)), slice(0, width))
    raster.close()


@pytest.mark.parametrize(
    ("code", "value", "kind", "message"),
    [
        (ROWS, 0, LONG, "damaged"),
        (TILE_WIDTH, 0, LONG, "damaged"),
        (HEIGHT, 0, LONG, "damaged"),
        (HEIGHT, 8, RATIONAL, "damaged"),
        (HEIGHT, 4000, LONG, "5 of 250 segments"),
        (PLANES, 2, SHORT, "5 of 15 segments"),
        (TILE_WIDTH, 2**28, LONG, "cannot hold segments"),
    ],
)
def test_sizes_that_a_file_does_not_have(
    code: int, value: int, kind: int, message: str, tmp_path: Path
) -> None:
    form = {"tile": (16, 16)} if code == TILE_WIDTH else {"rowsperstrip": 16}
    path = write(tmp_path / "a.tif", PIXELS, **form)
    read_all(path)
    change(path, code, value, kind)
    with pytest.raises(UserError, match=f"a.tif: .*{message}"):
        read_all(path)


def test_segments_of_fewer_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[..., 0], rowsperstrip=16, metadata=None)
    change(path, SAMPLES, 3, SHORT)
    with pytest.raises(UserError, match="damaged|channels"):
        read_all(path)


@pytest.mark.timeout(120)  # tifffile alone never ends
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
def test_pages_that_come_round_again(options: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", PIXELS, **options)
    with tifffile.TiffFile(path) as file:
        form, page = file.tiff, file.pages[0]
        end = page.offset + form.tagnosize + len(page.tags) * form.tagsize
    data = bytearray(path.read_bytes())
    struct.pack_into(form.offsetformat, data, end, page.offset)
    path.write_bytes(data)
    with pytest.raises(UserError, match="pages come round again"):
        open_raster(path)


def test_no_data_that_is_no_number(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 9
    plain = write(tmp_path / "a.tif", deep)
    odd = write(tmp_path / "b.tif", deep, extratags=[(NO_DATA, SHORT, 2, (1, 2), True)])
    window = slice(0, 75), slice(0, 100)
    assert (open_raster(odd).read(*window) == open_raster(plain).read(*window)).all()


def test_a_blank_strip_may_be_as_small_as_it_is(tmp_path: Path) -> None:
    blank = np.zeros((5000, 5000, 3), np.uint8)  # 75 MB
    path = write(tmp_path / "a.tif", blank, rowsperstrip=5000, compression="zlib")
    assert path.stat().st_size < 2**17
    assert not open_raster(path).read(slice(0, 9), slice(0, 9)).any()
