"""Image files that are damaged, too large or of a wrong size, and those that folders hold."""

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mask2former.errors import UserError
from mask2former.formats.images import (
    check_size,
    find_images,
    image_size,
    image_suffixes,
    images_in,
    read_image,
    read_photo,
)
from mask2former.formats.pillow import set_max_pixels
from tests.formats.pictures import PIXELS, RAMP, save


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found: .*gone\.png"):
        read_image(str(tmp_path / "gone.png"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = Path(save(tmp_path / f"cut.{suffix}", noise))
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
    path = save(tmp_path / "a.png", np.zeros((10, 11), np.uint8))
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
        read_image(save(tmp_path / "a.png", PIXELS), "RBG")


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
    save(path, np.zeros((16, 20), np.uint8))
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
