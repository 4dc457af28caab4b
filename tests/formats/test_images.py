"""Reading and writing of images: every mode, rotation, depth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mask2former.formats import images
from mask2former.formats.images import read_annotated, read_image, read_photo, to_array, write_image
from tests.formats.pictures import PIXELS, RAMP, save

# Values known by hand


def test_colours_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", PIXELS)
    np.testing.assert_array_equal(read_image(path, "RGB"), PIXELS)
    np.testing.assert_array_equal(read_image(path, "BGR"), PIXELS[:, :, ::-1])
    assert read_image(path, "L").shape == (1, 3, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    array = np.full((4, 5, 3), 255, np.uint8)
    array[:, :2] = 0  # black and white survive all these conversions
    suffix = "tif" if mode == "CMYK" else "png"
    path = save(tmp_path / f"a.{suffix}", array, mode)
    np.testing.assert_array_equal(read_image(path), array)


def test_transparency_is_dropped_and_the_colour_below_it_stays(tmp_path: Path) -> None:
    rgba = np.dstack([PIXELS, np.array([[0, 128, 255]], np.uint8)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", rgba)), PIXELS)


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 257, 32768, 65535]], np.uint16))
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 1, 128, 255])


# The same ramp from black to white, as cameras, scanners and programs write it.
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
    path = save(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_image(path)[:, :, 0], UPRIGHT[orientation])
    path = save(tmp_path / "16_bit.png", pixels * np.uint16(257), exif=exif)
    np.testing.assert_array_equal(read_image(path)[:, :, 0], UPRIGHT[orientation])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_size_of_the_annotations_says_whether_a_photo_is_turned(
    tmp_path: Path, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / f"a.{suffix}", np.zeros((20, 30, 3), np.uint8), exif=exif)
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
    labels = save(tmp_path / "labels.png", np.zeros((20, 30), np.uint8))
    assert read_annotated({"sem_seg_file_name": labels}, path).shape == (20, 30, 3)
    with pytest.raises(ValueError, match="expected 7x20 pixels"):
        read_annotated({"height": 20, "width": 7}, path)


def test_a_tiff_turned_back_is_what_was_stored(tmp_path: Path) -> None:
    pixels = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    for orientation in UPRIGHT:
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = save(tmp_path / "a.tif", pixels, exif=exif)
        np.testing.assert_array_equal(read_image(path)[:, :, 0], UPRIGHT[orientation])
        stored = read_image(path, exif_rotation=False)
        np.testing.assert_array_equal(stored[:, :, 0], pixels)


def test_what_was_assumed_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_said", set())
    for name in "ab":
        read_image(save(tmp_path / f"{name}.png", np.array([[4095]], np.uint16)))
    (line,) = caplog.messages
    assert line.endswith("a.png: values of type uint16 are taken as 12 bits (said once)")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", PIXELS, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
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
