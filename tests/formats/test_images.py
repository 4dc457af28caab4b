"""Reading and writing of images: every mode, rotation, and damaged files."""

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mask2former.errors import UserError
from mask2former.formats import images
from mask2former.formats.images import (
    check_size,
    find_images,
    image_size,
    image_suffixes,
    images_in,
    read_annotated,
    read_image,
    read_photo,
    to_array,
    write_image,
)
from mask2former.formats.pillow import set_max_pixels

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


# The same ramp from black to white, as cameras, scanners and programs write it.
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
RAMPS = {
    "8 bits": RAMP,
    "12 bits": RAMP * np.uint16(16) + np.uint16(9),
    "16 bits": RAMP * np.uint16(257),
    "signed": (RAMP * np.int64(257) - 32768).astype(np.int16),
    "signed, 12 bits": RAMP.astype(np.int16) * np.int16(16),
    "32 bits": RAMP * np.int32(65536),
    "0 to 1": (RAMP / 255).astype(np.float32),
    "0 to 255": RAMP.astype(np.float32),
    "-1 to 1": (RAMP / 127.5 - 1).astype(np.float32),
}


@pytest.mark.parametrize("kind", RAMPS)
def test_grey_of_every_range_is_scaled_to_8_bits(tmp_path: Path, kind: str) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), RAMPS[kind])
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels[:, :, 0], RAMP)
    assert bool(photo.notes) == (kind not in ("8 bits", "16 bits"))
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(to_array(image)[:, :, 0], RAMP)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", ["12 bits", "16 bits"])
def test_colours_of_16_bits_are_scaled_by_their_range(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    colours = np.dstack([RAMPS[kind], RAMPS[kind].T, RAMPS[kind][::-1]])
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), colours[:, :, ::-1])
    expected = np.dstack([RAMP, RAMP.T, RAMP[::-1]])
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), expected)


def test_no_data_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.array([[np.nan, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


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


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_size_of_the_annotations_says_whether_a_photo_is_turned(
    tmp_path: Path, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = _save(tmp_path / f"a.{suffix}", np.zeros((20, 30, 3), np.uint8), exif=exif)
    stored, upright = {"height": 20, "width": 30}, {"height": 30, "width": 20}
    photo = read_photo(path, record=stored)
    assert photo.pixels.shape == (20, 30, 3) and "not turned" in photo.notes[0]
    assert read_photo(path, record=upright) == (pytest.approx(read_image(path)), [])
    unknown = read_photo(path, record={})
    assert unknown.pixels.shape == (30, 20, 3) and "INPUT.EXIF_ROTATION False" in unknown.notes[0]
    assert read_image(path, exif_rotation=False).shape == (20, 30, 3)
    assert read_photo(path, record=stored, exif_rotation=False).notes == []
    with Image.open(path) as image:
        assert to_array(image).shape == (30, 20, 3)
    # The label map has the size, where the record does not say it.
    labels = _save(tmp_path / "labels.png", np.zeros((20, 30), np.uint8))
    assert read_annotated({"sem_seg_file_name": labels}, path).shape == (20, 30, 3)
    with pytest.raises(ValueError, match="expected 7x20 pixels"):
        read_annotated({"height": 20, "width": 7}, path)


def test_a_tiff_turned_back_is_what_was_stored(tmp_path: Path) -> None:
    pixels = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    for orientation in UPRIGHT:
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = _save(tmp_path / "a.tif", pixels, exif=exif)
        np.testing.assert_array_equal(read_image(path)[:, :, 0], UPRIGHT[orientation])
        stored = read_image(path, exif_rotation=False)
        np.testing.assert_array_equal(stored[:, :, 0], pixels)


def test_what_was_assumed_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_said", set())
    for name in "ab":
        read_image(_save(tmp_path / f"{name}.png", np.array([[4095]], np.uint16)))
    (line,) = caplog.messages
    assert line.endswith("a.png: values of type uint16 are taken as 12 bits (said once)")


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
    with Image.open(path) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), grey)
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


@pytest.fixture
def pillows_limit():
    yield
    set_max_pixels(0)


@pytest.mark.usefixtures("pillows_limit")
def test_the_largest_image_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Image.MAX_IMAGE_PIXELS
    path = _save(tmp_path / "a.png", np.zeros((10, 11), np.uint8))
    set_max_pixels(110)
    assert read_image(path).shape == (10, 11, 3)
    set_max_pixels(109)
    with pytest.raises(ValueError, match=r"a\.png: too large .*110 .* set INPUT\.MAX_PIXELS"):
        read_image(path)
    with pytest.raises(ValueError, match="INPUT.MAX_PIXELS: expected 0 or more, got -1"):
        set_max_pixels(-1)
    set_max_pixels(0)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # of who has lifted it himself
    set_max_pixels(0)
    assert Image.MAX_IMAGE_PIXELS is None


@pytest.mark.parametrize("path", [None, 3, b"a.png", np.zeros((4, 4, 3), np.uint8)])
def test_what_is_no_path_is_named(path) -> None:
    name = type(path).__name__
    with pytest.raises(TypeError, match=f"expected the path of an image, got {name}"):
        read_image(path)


def test_pointers_of_git_lfs_are_named(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (tmp_path / "a.jpg").write_text(text)
    with pytest.raises(ValueError, match=r"a\.jpg: a pointer of Git LFS.*git lfs pull"):
        read_image(tmp_path / "a.jpg")


def test_tiff_that_pillow_cannot_read_is_named_with_the_cure(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((4, 5, 3), np.float32))
    with pytest.raises(ValueError, match=r"a\.tif: a TIFF of a kind that .* save it as .* PNG"):
        read_image(tmp_path / "a.tif")


def test_the_first_of_several_pages_is_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((2, 3), value, np.uint8)) for value in (7, 8)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels[0, 0, 0] == 7 and "several pages" in photo.notes[0]


@pytest.mark.parametrize("suffix", ["jfif", "gif", "mpo", "avif", "jp2", "ppm", "tga", "JPG"])
def test_whatever_can_be_read_is_found_in_folders(tmp_path: Path, suffix: str) -> None:
    format = Image.registered_extensions()[f".{suffix.lower()}"]
    Image.fromarray(RAMP).convert("RGB").save(tmp_path / f"a.{suffix}", format=format)
    (tmp_path / "notes.txt").touch()
    assert [p.name for p in images_in(tmp_path)] == [f"a.{suffix}"]
    assert read_image(tmp_path / f"a.{suffix}").shape == (16, 16, 3)


def test_folders_are_not_searched_for_videos_and_data() -> None:
    assert not image_suffixes() & {".mpg", ".mpeg", ".h5", ".hdf", ".pdf", ".eps", ".json", ".txt"}


def test_frames_come_in_their_natural_order(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(1, 13)]
    for name in names:
        (tmp_path / name).touch()
    assert [p.name for p in images_in(tmp_path)] == names
    found = find_images([str(tmp_path / "*.png")])
    assert found == find_images([str(tmp_path)]) == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "avif", "dds"])
def test_however_a_file_is_damaged_it_is_a_value_error(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RAMP).convert("RGB").save(tmp_path / f"whole.{suffix}")
    whole, rng = (tmp_path / f"whole.{suffix}").read_bytes(), np.random.default_rng(0)
    path = tmp_path / f"damaged.{suffix}"
    for _ in range(30):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 5)] = rng.integers(0, 256, 5)
        path.write_bytes(damaged.tobytes())
        try:
            read_image(path)
        except ValueError as error:
            assert str(path) in str(error)


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


@pytest.mark.parametrize("tag", [b"\6", "6", (6, 6), 6.5, 99])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, tag, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (6, 4)).save(path)
    monkeypatch.setattr(Image.Image, "getexif", lambda image: {0x0112: tag})
    assert image_size(path) == (4, 6)
    assert read_image(path).shape == (4, 6, 3)


def test_a_file_that_is_too_short_for_its_size_is_no_image(tmp_path: Path) -> None:
    """Pillow reads zeros where a file ends before its last row: 600 MB from 80 bytes."""
    path = tmp_path / "a.png"
    _save(path, np.zeros((16, 20), np.uint8))
    content = bytearray(path.read_bytes())
    content[20:24] = (8_000_000).to_bytes(4, "big")  # the height
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"a\.png: .* bytes cannot hold 20x8000000 pixels"):
            read(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".gif", ".bmp"])
def test_plain_images_are_long_enough_for_their_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plain{suffix}"
    Image.new("1" if suffix == ".tif" else "L", (3000, 3000)).save(path)
    assert read_image(path).shape == (3000, 3000, 3)
