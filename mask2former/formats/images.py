"""Reading of photos and label maps: the one place that knows modes, rotation and broken files."""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError

__all__ = [
    "IMAGE_SUFFIXES",
    "check_size",
    "find_images",
    "read_image",
    "read_labels",
    "read_segment_ids",
]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {  # what to do with an image that carries the tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises on damaged files of the various formats.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def read_image(path: str, format: str = "RGB") -> np.ndarray:
    """Reads a photo, upright as its EXIF tag says.

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
    image = _upright(_to_8_bits(_load(path)))
    if format in ("RGB", "BGR"):
        array = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        return cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if format == "BGR" else array
    try:
        return convert_PIL_to_numpy(image, format)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"INPUT.FORMAT: expected 'RGB', 'BGR' or 'L', got {format!r}, which cannot be made of "
            f"{path} (mode {image.mode})"
        ) from error


def read_labels(path: str) -> np.ndarray:
    """Reads a map of class numbers from a one-channel image of 1, 8, 16 or 32 bits.

    The numbers of a palette image are its indices, as the Pascal VOC annotations have it.

    Returns:
        (H, W) uint8, uint16 or int32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged file, more than one channel or a negative number; names the file.
    """
    image = _load(path)
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(
            f"Label map {path}: expected one channel with a class number in each pixel, got mode "
            f"{image.mode}. If colours stand for classes there, convert them to numbers first."
        )
    labels = np.asarray(image.convert("L")) // 255 if image.mode == "1" else np.asarray(image)
    if labels.dtype == np.uint8:
        return labels
    if labels.dtype.itemsize == 4 and labels.min(initial=0) < 0:
        raise ValueError(f"Label map {path}: expected class numbers from 0 on, got {labels.min()}")
    return labels.astype(np.uint16 if labels.dtype.itemsize == 2 else np.int32, copy=False)


def read_segment_ids(path: str) -> np.ndarray:
    """Reads a COCO panoptic PNG, whose pixels hold ids as R + 256 G + 65536 B.

    Returns:
        (H, W) int32, 0 for void.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged file, or no colour image; names the file.
    """
    image = _load(path)
    if image.mode not in ("RGB", "RGBA", "P"):
        raise ValueError(
            f"Panoptic map {path}: expected an RGB image with segment ids R + 256 G + 65536 B, "
            f"got mode {image.mode}"
        )
    if image.mode == "P":
        image = image.convert("RGB")
    ids = np.frombuffer(image.convert("RGBA").tobytes(), "<i4") & 0xFFFFFF  # without alpha
    return ids.reshape(image.height, image.width)


def find_images(inputs: Sequence[str]) -> list[str]:
    """Files that the inputs name, folders and globs in the order of their names.

    Raises:
        FileNotFoundError: an input names nothing.
    """
    found: list[str] = []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            names = sorted(str(p) for p in path.iterdir() if _is_image(p))
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


def _is_image(path: Path) -> bool:
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def check_size(record: Mapping[str, Any], shape: tuple[int, ...], path: str) -> None:
    """Compares the size of an array read from ``path`` with the record that names it.

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
            " They are swapped: perhaps the annotations were made without regard to the EXIF "
            "rotation of the photo; remove that tag or rotate the annotations."
        )
    raise ValueError(
        f"{path}: expected {expected[1]}x{expected[0]} pixels (width x height) as the annotations "
        f"say, the file has {shape[1]}x{shape[0]}.{hint}"
    )


def _load(path: str) -> Image.Image:
    try:
        with PathManager.open(path, "rb") as file:
            image = Image.open(file)
            image.load()
            return image
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Image file not found: {path}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"Cannot read {path}: not an image, or of an unknown format") from error
    except _DAMAGED as error:
        raise ValueError(f"Cannot read {path}: damaged or truncated ({error})") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except _DAMAGED:  # damaged EXIF does not make the pixels unreadable
        orientation = None
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits, as 65535 is its white; leaves all else as it is."""
    if not image.mode.startswith("I"):
        return image
    grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
