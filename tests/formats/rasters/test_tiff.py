"""TIFF in windows: as tifffile reads the whole, in all layouts; damage and channels to choose."""

import numpy as np
import pytest
from PIL import Image

from mask2former.errors import MissingPackageError, UserError
from mask2former.formats.images import read_image
from mask2former.formats.pixels import to_8_bits
from mask2former.formats.rasters import open_raster, package, write_tiff
from mask2former.formats.rasters.reading import ArrayRaster
from mask2former.formats.rasters.tiff import TiffRaster
from tests.formats.rasters.tiffs import DEEP, PIXELS, RANDOM, RGB, SHAPE, TILES, windows, write

tifffile = pytest.importorskip("tifffile", reason="tifffile is missing: pip install tifffile")


@pytest.mark.parametrize(
    "options",
    [
        RGB,
        RGB | {"rowsperstrip": 16},
        RGB | {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
        RGB | TILES,
        RGB | TILES | {"compression": "zlib", "byteorder": ">"},
        RGB | TILES | {"bigtiff": True},
    ],
)
@pytest.mark.parametrize("pixels", [PIXELS, DEEP], ids=["8 bits", "16 bits"])
def test_windows_are_those_of_the_whole(options, pixels, tmp_path):
    raster = open_raster(write(tmp_path / "a.tif", pixels, **options))
    assert isinstance(raster, TiffRaster) and raster.size == SHAPE[:2]
    assert (windows(raster) == to_8_bits(pixels)[0]).all()
    raster.close()


@pytest.mark.parametrize("options", [{}, TILES, {"rowsperstrip": 8}])
def test_planes_one_after_the_other(options, tmp_path):
    planes = np.moveaxis(PIXELS, 2, 0)
    path = write(tmp_path / "a.tif", planes, planarconfig="separate", **RGB, **options)
    assert (windows(open_raster(path)) == PIXELS).all()
    assert (windows(open_raster(path, [3, 1, 1])) == PIXELS[..., [2, 0, 0]]).all()


def test_ome_with_a_page_for_each_channel(tmp_path):
    planes = RANDOM.integers(0, 256, (5, *SHAPE[:2]), np.uint8)
    options = {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
    path = write(tmp_path / "a.ome.tif", planes, **options, **TILES)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 5 and file.series[0].axes == "CYX"
    with pytest.raises(UserError, match="has 5 channels: which are red, green and blue"):
        open_raster(path)
    chosen = np.moveaxis(planes[[0, 4, 2]], 0, 2)
    assert (windows(open_raster(path, [1, 5, 3])) == chosen).all()
    assert (windows(open_raster(path, [2])) == planes[1, :, :, None]).all()


def test_the_first_of_several_pages(tmp_path, caplog):
    pages = RANDOM.integers(0, 256, (3, *SHAPE), np.uint8)
    raster = open_raster(write(tmp_path / "a.tif", pages, **RGB))
    assert (windows(raster) == pages[0]).all()
    assert "has several pages, of which the first is read" in caplog.text


def test_the_largest_level_of_a_pyramid(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PIXELS, subifds=1, **TILES, **RGB)
        writer.write(PIXELS[::2, ::2].copy(), subfiletype=1, **TILES, **RGB)
    assert (windows(open_raster(tmp_path / "a.tif")) == PIXELS).all()


def test_grey_and_transparency(tmp_path):
    grey, alpha = PIXELS[..., 0], PIXELS[..., 1:2]
    path = write(tmp_path / "grey.tif", grey, photometric="minisblack")
    assert (windows(open_raster(path)) == grey[..., None]).all()
    rgba = np.concatenate([PIXELS, alpha], 2)
    path = write(tmp_path / "rgba.tif", rgba, extrasamples=["unassalpha"], **RGB)
    assert (windows(open_raster(path)) == PIXELS).all()


def test_a_mask_behind_the_image_is_no_image(tmp_path):
    """As GDAL writes them; Pillow does not know their colours."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PIXELS, **RGB, **TILES)
        writer.write(PIXELS[..., 0] > 99, photometric=4, subfiletype=4)
    for found in (windows(open_raster(tmp_path / "a.tif")), read_image(tmp_path / "a.tif")):
        assert (found == PIXELS).all()


def test_grey_times_transparency(tmp_path):
    pixels = PIXELS[..., :2].copy()
    pixels[..., 1] = 255
    options = {"planarconfig": "contig", "extrasamples": ["assocalpha"]}
    path = write(tmp_path / "a.tif", pixels, photometric="minisblack", **options)
    for found in (windows(open_raster(path)), read_image(path)):
        assert (found == pixels[..., :1]).all()


@pytest.mark.parametrize("count", [2, 4, 5])
def test_channels_that_nothing_explains(count, tmp_path):
    channels = RANDOM.integers(0, 256, (*SHAPE[:2], count), np.uint8)
    path = write(tmp_path / "a.tif", channels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(UserError, match=rf"a\.tif has {count} channels: which .* --channels 3 2 1"):
        open_raster(path)
    assert (windows(open_raster(path, [2, 1, 2])) == channels[..., [1, 0, 1]]).all()
    for wrong in ([1, 2], [0], [1, 2, count + 1]):
        with pytest.raises(UserError, match=f"expected one channel, or three .* to {count}, got"):
            open_raster(path, wrong)


def test_a_file_that_is_cut_off(tmp_path):
    for options in (TILES | {"compression": "zlib"}, {}):
        path = write(tmp_path / "a.tif", PIXELS, **RGB, **options)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(UserError, match=r"a\.tif: the file is cut off: its pixels end at byte"):
            open_raster(path)
        path.write_bytes(data[:20])
        with pytest.raises(UserError, match=r"Cannot read .*a\.tif"):
            open_raster(path)


def test_damaged_pixels(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, compression="zlib", **RGB, **TILES)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 50] = bytes(50)
    path.write_bytes(data)
    raster = open_raster(path)
    with pytest.raises(UserError, match=r"Cannot read .*a\.tif: damaged or truncated"):
        raster.read(slice(0, 10), slice(0, 10))


def with_tag(path, code, value):
    """Write another value (16 bits) of a tag into a file."""
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].tags[code].valueoffset
    data = bytearray(path.read_bytes())
    data[offset : offset + 2] = value.to_bytes(2, "little")
    path.write_bytes(data)


def test_tags_of_values_that_nothing_has(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, **RGB)
    with_tag(path, 262, 99)
    with pytest.raises(UserError, match=r"Cannot read .*a\.tif: damaged or truncated TIFF"):
        open_raster(path)


def test_a_predictor_that_needs_another_package(tmp_path, caplog, monkeypatch):
    path = write(tmp_path / "a.tif", PIXELS, compression="zlib", predictor=True, **RGB)
    monkeypatch.setattr(tifffile.TIFF, "UNPREDICTORS", {1: None})
    assert (windows(open_raster(path)) == PIXELS).all()
    assert "needs imagecodecs for windows" in caplog.text


def test_a_decoder_that_is_not_installed_is_no_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", PIXELS, compression="zlib", **RGB)
    raster = open_raster(path)

    def decode(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'compression'")

    monkeypatch.setattr(raster._page, "decode", decode)
    with pytest.raises(MissingPackageError, match="ADOBE_DEFLATE needs imagecodecs"):
        raster.read(slice(0, 10), slice(0, 10))


def test_colours_that_are_not_rgb_yet(tmp_path):
    Image.fromarray(PIXELS).convert("YCbCr").save(tmp_path / "a.tif")
    raster = open_raster(tmp_path / "a.tif")
    assert isinstance(raster, ArrayRaster)
    assert np.abs(windows(raster).astype(int) - PIXELS).mean() < 2


def test_what_only_pillow_knows_is_read_as_a_whole(tmp_path):
    palette = Image.fromarray(PIXELS).quantize(16)
    palette.save(tmp_path / "palette.tif")
    Image.fromarray(PIXELS).save(tmp_path / "turned.tif", tiffinfo={274: 6})
    for name, size in (("palette", (75, 100)), ("turned", (100, 75))):
        raster = open_raster(tmp_path / f"{name}.tif")
        assert isinstance(raster, ArrayRaster) and raster.size == size
    assert (
        windows(open_raster(tmp_path / "palette.tif")) == np.asarray(palette.convert("RGB"))
    ).all()
    with pytest.raises(UserError, match="channels can be chosen of TIFF files of numbers only"):
        open_raster(tmp_path / "palette.tif", [1])


def test_compression_that_needs_another_package(tmp_path, caplog, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", compression="tiff_lzw")
    known = {code: tifffile.TIFF.DECOMPRESSORS[code] for code in (1, 8)}
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", known)
    assert (windows(open_raster(tmp_path / "a.tif")) == PIXELS).all()
    assert "read as a whole, as it needs imagecodecs for windows" in caplog.text


def test_other_images(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), PIXELS, Image.fromarray(PIXELS)):
        assert (windows(open_raster(image)) == PIXELS).all()
    with pytest.raises(FileNotFoundError, match=r"no\.tif"):
        open_raster(tmp_path / "no.tif")
    with pytest.raises(TypeError, match="expected an image as a path"):
        open_raster(3)


def test_memory_holds_the_segments_of_a_row_of_windows(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((64 * 20, 64 * 3), np.uint8), tile=(64, 64))
    raster = open_raster(path)
    for y in range(0, 64 * 19, 32):
        raster.read(slice(y, y + 64), slice(0, 64 * 3))
        assert len(raster._kept) <= 6


GEO = [
    (33550, 12, 3, (0.5, 0.5, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 440000.0, 3750000.0, 0.0), True),
    (34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32611), True),
    (34737, 2, 8, "UTM 11N|", True),
]


def test_georeference_is_carried_over(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, extratags=GEO, **RGB)
    raster = open_raster(path)
    write_tiff(
        tmp_path / "b.tif", [np.zeros(SHAPE[:2], np.uint8)], SHAPE[:2], "uint8", raster.georeference
    )
    found = []
    for name in ("a", "b"):
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
            found.append(file.pages[0].geotiff_tags)
    assert found[0] == found[1] and found[1]["ProjectedCSTypeGeoKey"] == 32611


def test_without_the_package(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", PIXELS, **RGB)
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mask2former\[tiles\]'"):
        package.import_tifffile()
    with pytest.raises(MissingPackageError):
        open_raster(path)
