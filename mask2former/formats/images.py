"""Photos and other images: the one module that knows modes, rotation and damaged files."""

import glob
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .atomic import PathLike, atomic_path

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}

_WRITABLE = {(np.dtype(np.uint8),), (np.dtype(np.uint16),), (np.dtype(np.uint8), 3)}

# What Pillow raises on damaged files of the various formats.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def read_image(path: PathLike, format: str = "RGB") -> np.ndarray:
    """Read a photo, upright as its EXIF tag says.

    Grey and palette images become colour, transparency is dropped, and 16-bit grey values are
    scaled to 8 bits (Pillow alone would clip them at 255).

    Args:
        path: a file, or anything that detectron2's PathManager opens.
        format: "RGB", "BGR", "L" or another format of detectron2's ``INPUT.FORMAT``.

    Returns:
        (H, W, C) uint8 in [0, 255]; float for "YUV-BT.601".

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, damaged or truncated; names the file.
    """
    image = load_image(path)
    with suppress(*_DAMAGED):  # damaged EXIF does not make the pixels unreadable
        ImageOps.exif_transpose(image, in_place=True)
    try:
        return to_array(image, format)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"INPUT.FORMAT: expected 'RGB', 'BGR' or 'L', got {format!r}, which cannot be made of "
            f"{path} (mode {image.mode})"
        ) from error


def to_array(image: Image.Image, format: str = "RGB") -> np.ndarray:
    """Return an image of Pillow, which stands upright, as `read_image` returns a file."""
    image = _to_8_bits(image)
    if format in ("RGB", "BGR"):
        array = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        return cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if format == "BGR" else array
    return convert_PIL_to_numpy(image, format)


def image_size(path: PathLike) -> tuple[int, int]:
    """Return (H, W) in pixels of an image as `read_image` gives it, from the head of its file.

    Raises:
        FileNotFoundError, ValueError: as `read_image`.
    """
    with _open_image(path) as image:
        width, height = image.size
        with suppress(*_DAMAGED):
            if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # turned by a quarter
                width, height = height, width
        return height, width


def write_image(path: PathLike, image: np.ndarray, *, quality: int = 95) -> None:
    """Write an image atomically and make its folder; the suffix chooses the format.

    Args:
        path: such as ``a.png``, ``a.jpg`` or ``a.tif``.
        image: (H, W) uint8 or uint16, or (H, W, 3) uint8 RGB.
        quality: of JPEG, in 1..100.

    Raises:
        ValueError: an array or a suffix that cannot be written.
    """
    path = Path(path)
    suffix, kind = path.suffix.lower(), (image.dtype, *image.shape[2:])
    if suffix not in IMAGE_SUFFIXES or kind not in _WRITABLE or image.ndim < 2:
        raise ValueError(
            f"{path}: expected an image ({', '.join(sorted(IMAGE_SUFFIXES))}) of (H, W) uint8 or "
            f"uint16, or (H, W, 3) uint8, got {image.dtype} of shape {image.shape}"
        )
    options: list[int] = []
    if suffix in (".jpg", ".jpeg"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif suffix == ".png":  # a third of the time of the default, for files a little larger
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, encoded = cv2.imencode(suffix, pixels, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        encoded.tofile(part)


def find_images(inputs: Sequence[str]) -> list[str]:
    """Return the files that the inputs name, folders and globs in the order of their names.

    Raises:
        FileNotFoundError: an input names nothing.
    """
    found: list[str] = []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            names = [str(p) for p in images_in(path)]
        elif path.is_file():
            names = [item]
        else:
            names = sorted(name for name in glob.glob(item, recursive=True) if os.path.isfile(name))
        if not names:
            raise FileNotFoundError(
                f"--input {item}: no such file, no folder with images "
                f"({', '.join(sorted(IMAGE_SUFFIXES))}) and no glob that matches any."
            )
        found += names
    return list(dict.fromkeys(found))


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, hidden ones apart, in the order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def check_size(record: Mapping[str, Any], shape: tuple[int, ...], path: PathLike) -> None:
    """Compare the size of an array read from ``path`` with the record that names it.

    Args:
        record: may hold "height" and "width".
        shape: (H, W, ...).

    Raises:
        ValueError: they differ; says both sizes and the file.
    """
    expected = (record.get("height", shape[0]), record.get("width", shape[1]))
    if expected == tuple(shape[:2]):
        return
    hint = ""
    if expected == (shape[1], shape[0]):
        hint = (
            " They are swapped: perhaps the annotations were made without respect to the EXIF "
            "rotation of the photo; remove that tag or rotate the annotations."
        )
    raise ValueError(
        f"{path}: expected {expected[1]}x{expected[0]} pixels (width x height) as the annotations "
        f"say, the file has {shape[1]}x{shape[0]}.{hint}"
    )


def load_image(path: PathLike) -> Image.Image:
    """Read an image with all its pixels, as it is in the file.

    Returns:
        Pillow's image, whose ``info["bits"]`` is the number of bits of a channel in the file: where
        it is 16, Pillow keeps the upper 8 of colours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, damaged or truncated; names the file.
    """
    with _open_image(path) as image:
        tiles = getattr(image, "tile", ())
        bits = 16 if any(";16" in str(tile[3]) for tile in tiles) else 8
        image.load()
        image.info["bits"] = bits
        return image


@contextmanager
def _open_image(path: PathLike) -> Iterator[Image.Image]:
    """Open an image, and say in errors of the block that it cannot be read."""
    try:
        with PathManager.open(os.fspath(path), "rb") as file:
            yield Image.open(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Image file not found: {path}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"Cannot read {path}: not an image, or of an unknown format") from error
    except _DAMAGED as error:
        raise ValueError(f"Cannot read {path}: damaged or truncated ({error})") from error


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, as 65535 is its white; leave all else as it is."""
    if not image.mode.startswith("I"):
        return image
    grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
