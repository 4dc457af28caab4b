"""Values of TIFFs to brightness: their range, and what is no data; in windows and as a whole."""

import numpy as np
import pytest
from PIL import Image

from mask2former.formats.images import read_image, to_array
from mask2former.formats.pixels import to_8_bits
from mask2former.formats.rasters import open_raster
from tests.formats.rasters.tiffs import DEEP, PIXELS, RGB, TILES, windows, write


def test_values_are_scaled_by_the_range_of_the_whole(tmp_path):
    dark = DEEP.copy()
    dark[:40] //= 100
    path = write(tmp_path / "a.tif", dark, **RGB, **TILES)
    assert (windows(open_raster(path)) == dark >> 4).all()
    floats = np.linspace(-5, 20, 75 * 100, dtype=np.float32).reshape(75, 100)
    floats[3, 3] = np.nan
    path = write(tmp_path / "b.tif", floats, photometric="minisblack")
    assert (windows(open_raster(path))[..., 0] == to_8_bits(floats)[0]).all()


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("float32", "-9999", -9999),
        ("float32", "-3.4028234663852886e+38", np.finfo(np.float32).min),
        ("uint16", "65535", 65535),
        ("int16", "-32768", -32768),
    ],
)
def test_no_data_is_black_and_not_of_the_range(dtype, text, value, tmp_path):
    values = DEEP[..., 0].astype(dtype)
    expected = to_8_bits(values)[0]
    values[10:50, 30:] = value
    expected[10:50, 30:] = 0
    tag = (42113, "s", 0, text, True)
    path = write(tmp_path / "a.tif", values, photometric="minisblack", extratags=[tag], **TILES)
    assert (windows(open_raster(path))[..., 0] == expected).all()
    assert (read_image(path)[..., 0] == expected).all()  # as a whole, by Pillow
    with Image.open(path) as image:
        assert (to_array(image)[..., 0] == expected).all()


def test_no_data_of_colours(tmp_path):
    values, tag = DEEP.copy(), (42113, "s", 0, "65535", True)
    values[10:50, 30:] = 65535
    expected = to_8_bits(DEEP)[0]
    expected[10:50, 30:] = 0
    path = write(tmp_path / "a.tif", values, extratags=[tag], **RGB, **TILES)
    assert (windows(open_raster(path)) == expected).all() and (read_image(path) == expected).all()
    path = write(tmp_path / "b.tif", PIXELS, extratags=[(42113, "s", 0, "255", True)], **RGB)
    for found in (windows(open_raster(path)), read_image(path)):  # 8 bits stay as they are
        assert (found == PIXELS).all()


def test_8_bits_spread_over_16_beside_no_data(tmp_path):
    dark, tag = (PIXELS[..., 0] // 8).astype(np.uint16) * 257, (42113, "s", 0, "300", True)
    dark[:9] = 300
    expected = PIXELS[..., 0] // 8
    expected[:9] = 0
    path = write(tmp_path / "a.tif", dark, photometric="minisblack", extratags=[tag])
    assert (windows(open_raster(path))[..., 0] == expected).all()
    assert (read_image(path)[..., 0] == expected).all()


@pytest.mark.parametrize("text", ["", "nan", "none", "-9999", "1e999", "2000.5"])
def test_no_data_that_no_pixel_has(text, tmp_path):
    path = write(tmp_path / "a.tif", DEEP, extratags=[(42113, "s", 0, text, True)], **RGB)
    assert (windows(open_raster(path)) == to_8_bits(DEEP)[0]).all()
    assert (read_image(path) == to_8_bits(DEEP)[0]).all()


def test_dark_8_bits_that_were_spread_over_16(tmp_path):
    dark = (PIXELS // 8).astype(np.uint16) * 257
    path = write(tmp_path / "a.tif", dark, **RGB, **TILES)
    assert (windows(open_raster(path)) == PIXELS // 8).all()


def test_large_floats(tmp_path):
    floats = np.linspace(0, 1e30, 7500, dtype=np.float32).reshape(75, 100)
    path = write(tmp_path / "a.tif", floats, photometric="minisblack")
    expected = np.rint(np.linspace(0, 255, 7500)).reshape(75, 100)
    assert np.abs(windows(open_raster(path))[..., 0] - expected).max() <= 1
