"""Reading and writing of images: every mode, rotation, and damaged files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.formats.images import check_size, read_image, write_image

PIXELS = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)  # 1 x 3


def _save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> str:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return str(path)


# Values known by hand


def test_colours_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", PIXELS)
    np.testing.assert_array_equal(read_image(path, "RGB"), PIXELS)
    np.testing.assert_array_equal(read_image(path, "BGR"), PIXELS[:, :, ::-1])
    assert read_image(path, "L").shape == (1, 3, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    array = np.full((4, 5, 3), 255, np.uint8)
    array[:, :2] = 0  # black and white survive all these conversions
    suffix = "tif" if mode == "CMYK" else "png"
    path = _save(tmp_path / f"a.{suffix}", array, mode)
    np.testing.assert_array_equal(read_image(path), array)


def test_transparency_is_dropped_and_the_colour_below_it_stays(tmp_path: Path) -> None:
    rgba = np.dstack([PIXELS, np.array([[0, 128, 255]], np.uint8)])
    np.testing.assert_array_equal(read_image(_save(tmp_path / "a.png", rgba)), PIXELS)


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.array([[0, 257, 32768, 65535]], np.uint16))
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 1, 128, 255])


# The picture that each orientation should show, of the pixels [[1, 2, 3], [4, 5, 6]].
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    path = _save(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_image(path)[:, :, 0], UPRIGHT[orientation])
    path = _save(tmp_path / "16_bit.png", pixels * np.uint16(257), exif=exif)
    np.testing.assert_array_equal(read_image(path)[:, :, 0], UPRIGHT[orientation])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", PIXELS, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_image(path).shape == (1, 3, 3)


# Agreement with detectron2


def test_photos_are_read_as_detectron2_reads_them(shared: Path) -> None:
    from detectron2.data.detection_utils import read_image as detectron2_read_image

    path = str(shared / "data/coco28/images/000000003124.jpg")
    for format in ("RGB", "BGR", "L", "YUV-BT.601"):
        np.testing.assert_array_equal(read_image(path, format), detectron2_read_image(path, format))


# Writing


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"a.{suffix}"
    write_image(path, PIXELS)
    np.testing.assert_array_equal(read_image(path), PIXELS)
    grey = PIXELS[:, :, 0]
    write_image(path, grey)
    assert Image.open(path).mode == "L"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), grey)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 300, 65535]], np.uint16)
    write_image(tmp_path / f"a.{suffix}", deep)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"a.{suffix}")), deep)


def test_jpeg_of_a_quality(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for quality in (30, 95):
        write_image(tmp_path / f"{quality}.jpg", noise, quality=quality)
    assert (tmp_path / "30.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size / 2


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", PIXELS)
    with pytest.raises(ValueError, match=r"a\.png: expected .* got float64 of shape \(1, 3, 9\)"):
        write_image(tmp_path / "a.png", np.zeros((1, 3, 9)))
    with pytest.raises(ValueError, match=r"a\.doc: expected an image \(\.bmp, "):
        write_image(tmp_path / "a.doc", PIXELS)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)


# Errors


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found: .*gone\.png"):
        read_image(str(tmp_path / "gone.png"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = Path(_save(tmp_path / f"cut.{suffix}", noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\.{suffix}: damaged or truncated"):
        read_image(str(path))


def test_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page\.jpg: not an image"):
        read_image(str(tmp_path / "page.jpg"))


def test_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT: expected 'RGB', 'BGR' or 'L', got 'RBG'"):
        read_image(_save(tmp_path / "a.png", PIXELS), "RBG")


def test_size_of_the_record_is_compared() -> None:
    check_size({"height": 4, "width": 6}, (4, 6, 3), "a.jpg")
    check_size({}, (4, 6, 3), "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg: expected 6x5 pixels .* the file has 6x4\.$"):
        check_size({"height": 5, "width": 6}, (4, 6, 3), "a.jpg")
    with pytest.raises(ValueError, match="EXIF"):
        check_size({"height": 6, "width": 4}, (4, 6, 3), "a.jpg")
