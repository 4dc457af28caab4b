"""Photos and other images: reading to 8 bits and upright, writing, finding in folders."""

import glob
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError
from .atomic import PathLike, atomic_path
from .names import natural_key
from .pillow import (
    image_size,
    image_suffixes,
    load_image,
    no_data,
    open_file,
    orientation,
    turn,
)
from .pixels import no_data_value, to_8_bits

logger = logging.getLogger(__name__)

# What Pillow calls the formats that are written, and their options.
_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {})
_TIFF = ("TIFF", {"compression": "tiff_lzw"})
_WRITABLE_SUFFIXES: dict[str, tuple[str, dict[str, Any]]] = {
    ".bmp": ("BMP", {}),
    ".jpeg": _JPEG,
    ".jpg": _JPEG,
    ".png": ("PNG", {"compress_level": 1}),  # a third of the time, for files a little larger
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": ("WEBP", {"lossless": True}),
}
_WRITABLE = {(np.dtype(np.uint8),), (np.dtype(np.uint16),), (np.dtype(np.uint8), 3)}

_TURNED = (
    "turned as its EXIF tag says; if the annotations were made on the pixels as they are stored, "
    "set INPUT.EXIF_ROTATION False"
)
_NOT_TURNED = "not turned as its EXIF tag says: the annotations have the size of the stored pixels"
_FIRST_PAGE = "has several pages, of which the first is read"
_said: set[str] = set()  # notes that were logged


class Photo(NamedTuple):
    """A photo that was read.

    Attributes:
        pixels: (H, W, C) uint8 in [0, 255]; float for "YUV-BT.601".
        notes: what was assumed about the file; mostly nothing.
    """

    pixels: np.ndarray
    notes: list[str]


def read_image(path: PathLike, format: str = "RGB", *, exif_rotation: bool = True) -> np.ndarray:
    """Return the pixels of `read_photo`, or raise as it does; what was assumed is logged once."""
    return _say_notes(path, read_photo(path, format, exif_rotation=exif_rotation))


def read_annotated(
    record: Mapping[str, Any], path: PathLike, format: str = "RGB", *, exif_rotation: bool = True
) -> np.ndarray:
    """Read a photo of a record as `read_image` does, and compare their sizes by `check_size`.

    Raises:
        FileNotFoundError, TypeError, UserError: as `read_photo` and `check_size`.
    """
    photo = read_photo(path, format, record, exif_rotation=exif_rotation)
    check_size(record, photo.pixels.shape, path)
    return _say_notes(path, photo)


def read_photo(
    path: PathLike,
    format: str = "RGB",
    record: Mapping[str, Any] | None = None,
    *,
    exif_rotation: bool = True,
) -> Photo:
    """Read a photo, upright as its EXIF tag says.

    Grey and palette images become colour, transparency is dropped, and values of other types than 8
    bits are scaled by their range, see `to_8_bits` (Pillow alone would clip them at 255).

    Args:
        path: a file, or anything that detectron2's PathManager opens.
        format: "RGB", "BGR", "L" or another format of detectron2's ``INPUT.FORMAT``.
        record: in detectron2's form, with annotations of the photo. Where their size is that of the
            pixels as they are stored, and not that of the upright photo, it is not turned.
        exif_rotation: False takes the pixels as they are stored.

    Raises:
        FileNotFoundError: no such file.
        TypeError: ``path`` is no path.
        UserError: the file is no image, damaged or truncated; names the file.
    """
    image = load_image(path)
    tag, is_upright = image.info["orientation"], image.format == "TIFF"
    stored = turn(image, tag, back=True).size if is_upright else image.size
    wanted, note = _is_wanted_upright(stored, tag, record) if exif_rotation else (False, "")
    notes = [note, _FIRST_PAGE if image.info["pages"] > 1 else ""]
    try:
        image, assumed = _to_8_bits(_deep_colours(path, image), no_data(image))
        if wanted != is_upright:
            image = turn(image, tag, back=is_upright)
        return Photo(_to_array(image, format), [n for n in (*notes, assumed) if n])
    except (ValueError, KeyError) as error:
        raise UserError(
            f"INPUT.FORMAT: expected 'RGB', 'BGR' or 'L', got {format!r}, which cannot be made of "
            f"{path} (mode {image.mode})"
        ) from error


def to_array(image: Image.Image, format: str = "RGB", *, exif_rotation: bool = True) -> np.ndarray:
    """Return an image of Pillow, (H, W, C), as `read_image` returns a file."""
    image.load()  # which turns a TIFF
    tag = orientation(image) if exif_rotation else 1
    return _to_array(turn(_to_8_bits(image, no_data(image))[0], tag), format)


def write_image(path: PathLike, image: np.ndarray, *, quality: int = 95) -> None:
    """Write an image atomically and make its folder; the suffix chooses the format.

    Args:
        path: such as ``a.png``, ``a.jpg`` or ``a.tif``.
        image: (H, W) uint8 or uint16, or (H, W, 3) uint8 RGB.
        quality: of JPEG, in 1..100.

    Raises:
        UserError: an array or a suffix that cannot be written.
    """
    path = Path(path)
    suffix, kind = path.suffix.lower(), (image.dtype, *image.shape[2:])
    if suffix not in _WRITABLE_SUFFIXES or kind not in _WRITABLE or image.ndim < 2:
        raise UserError(
            f"{path}: expected an image ({', '.join(sorted(_WRITABLE_SUFFIXES))}) of (H, W) uint8 "
            f"or uint16, or (H, W, 3) uint8, got {image.dtype} of shape {image.shape}"
        )
    name, options = _WRITABLE_SUFFIXES[suffix]
    options = {"quality": quality} if name == "JPEG" else options
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, sync=False) as part:
        Image.fromarray(np.ascontiguousarray(image)).save(part, name, **options)


def find_images(inputs: Sequence[str], option: str = "--input ") -> list[str]:
    """Return the files that the inputs name, folders and globs in the natural order of their names.

    Args:
        inputs: files, folders and globs.
        option: what messages have before an input.

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
            names = [name for name in glob.glob(item, recursive=True) if os.path.isfile(name)]
            names.sort(key=natural_key)
        if not names:
            raise FileNotFoundError(
                f"{option}{item}: no such file, no folder with images (.jpg, .png, .tif, .webp or "
                "another format that Pillow reads) and no glob that matches any."
            )
        found += names
    return list(dict.fromkeys(found))


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, hidden ones apart, in the natural order of their names."""
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in image_suffixes()
        and not path.name.startswith(".")
        and path.is_file()
    ]
    return sorted(images, key=natural_key)


def check_size(record: Mapping[str, Any], shape: tuple[int, ...], path: PathLike) -> None:
    """Compare the size of an array read from ``path`` with the record that names it.

    Args:
        record: may hold "height" and "width".
        shape: (H, W, ...).

    Raises:
        UserError: they differ; says both sizes and the file.
    """
    expected = (record.get("height", shape[0]), record.get("width", shape[1]))
    if expected == tuple(shape[:2]):
        return
    hint = ""
    if expected == (shape[1], shape[0]):
        hint = (
            " They are swapped: perhaps the annotations were made without respect to the EXIF "
            "rotation of the photo (set INPUT.EXIF_ROTATION False), or with it (set it True)."
        )
    raise UserError(
        f"{path}: expected {expected[1]}x{expected[0]} pixels (width x height) as the annotations "
        f"say, the file has {shape[1]}x{shape[0]}.{hint}"
    )


def _is_wanted_upright(
    stored: tuple[int, int], tag: int, record: Mapping[str, Any] | None
) -> tuple[bool, str]:
    """Return whether annotations see a photo of this size (W, H) upright, and what was assumed."""
    if tag not in range(2, 9) or record is None:
        return True, ""
    upright = stored[::-1] if tag >= 5 else stored
    annotated = _annotated_size(record)
    if upright == stored or annotated not in (stored, upright):
        return True, _TURNED
    return (True, "") if annotated == upright else (False, _NOT_TURNED)


def _annotated_size(record: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (W, H) that the annotations of a record say or have."""
    if "height" in record and "width" in record:
        return record["width"], record["height"]
    maps = [record[k] for k in ("sem_seg_file_name", "pan_seg_file_name") if k in record]
    return image_size(maps[0], upright=False)[::-1] if maps else None


def _say_notes(path: PathLike, photo: Photo) -> np.ndarray:
    for note in photo.notes:
        if note not in _said:
            _said.add(note)
            logger.warning("%s: %s (said once)", path, note)
    return photo.pixels


def _to_array(image: Image.Image, format: str) -> np.ndarray:
    if image.mode == "La":  # grey times its transparency, which Pillow converts to LA alone
        image = image.convert("LA")
    if format in ("RGB", "BGR"):
        array = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        return _swapped(array) if format == "BGR" else array
    from detectron2.data.detection_utils import convert_PIL_to_numpy

    return convert_PIL_to_numpy(image, format)


def _swapped(array: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) with its channels in reverse; in one assignment it takes longer."""
    swapped = np.empty_like(array)
    for i in range(3):
        swapped[..., i] = array[..., 2 - i]
    return swapped


def _deep_colours(path: PathLike, image: Image.Image) -> Image.Image | np.ndarray:
    """Return colours of 16 bits (H, W, 3) as the file has them; other images as they are, and so
    without OpenCV, when Pillow's upper 8 bits have to do."""
    if image.info["bits"] == 8 or image.mode not in ("RGB", "RGBA"):
        return image
    try:
        import cv2
    except ModuleNotFoundError:
        return image
    with open_file(path) as file:
        deep = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.shape[2:] not in ((3,), (4,)):
        return image
    return deep[:, :, 2::-1]


def _to_8_bits(image: Image.Image | np.ndarray, no_data_text: Any) -> tuple[Image.Image, str]:
    """Scale grey of 16 or 32 bits, and arrays; leave all else as it is. See `to_8_bits`.

    Args:
        no_data_text: of GDAL's tag, or None.
    """
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
        return image, ""
    values = np.asarray(image)
    pixels, assumed = to_8_bits(values, no_data=no_data_value(no_data_text, values.dtype))
    return Image.fromarray(np.ascontiguousarray(pixels)), assumed
