"""Image files through Pillow: what it can open, how large, which way up, and why not."""

import os
import warnings
from contextlib import suppress
from functools import cache
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from .atomic import PathLike
from .containers.tar_files import TarMember
from .opening import open_path

# Formats of Pillow's list that are videos or data, or need another program to be read.
_NO_PHOTOS = {"MPEG", "HDF5", "GRIB", "BUFR", "EPS", "WMF", "IPTC"}

# A byte of a file unfolds to so many pixels at most: deflate's 1032 bytes, of 1 bit a pixel.
# Formats that describe whole areas do more, and so do faxes (mode 1).
_PIXELS_PER_BYTE = 8 * 1032
_DENSER = {"AVIF", "JPEG2000", "WEBP"}

_replaced: list[int | None] = []  # Pillow's limit, while there is one of ours
_LFS = b"version https://git-lfs"  # how the files begin that stand for those that Git LFS keeps
LFS_POINTER = "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_TIFF = (
    "Pillow reads TIFF of 8 or 16 bits with 1, 3 or 4 channels, and of 32 bits with 1; if another "
    "program opens this one, save it as such or as PNG"
)

NO_DATA = 42113  # GDAL's tag of TIFF, the value of pixels that were not seen, as text
_ORIENTATION = 0x0112  # EXIF's tag, and what turns an image that has it upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}  # the other turns undo themselves


@cache  # and no constant: Pillow imports all its formats to tell
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of images that Pillow reads, as ".jpg"."""
    formats = Image.registered_extensions()  # before OPEN, which it fills
    photos = {*Image.OPEN, "MPO"} - _NO_PHOTOS  # MPO is opened as JPEG
    return frozenset(suffix for suffix, format in formats.items() if format in photos)


def set_max_pixels(limit: int) -> None:
    """Set the largest image that this process reads: INPUT.MAX_PIXELS.

    Args:
        limit: in pixels; 0 for Pillow's own (twice PIL.Image.MAX_IMAGE_PIXELS, 179 million), which
            keeps small files that unfold to huge images from filling the memory.

    Raises:
        UserError: a negative number.
    """
    if limit < 0:
        raise UserError(f"INPUT.MAX_PIXELS: expected 0 or more, got {limit}")
    if limit:
        if not _replaced:
            _replaced.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = limit / 2  # type: ignore[assignment]  # Pillow refuses twice that
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    elif _replaced:
        Image.MAX_IMAGE_PIXELS = _replaced.pop()


def image_size(path: PathLike, *, upright: bool = True) -> tuple[int, int]:
    """Return (H, W) in pixels of an image, from the head of its file.

    Args:
        upright: as its EXIF tag says; False for label maps, whose tag counts for nothing.

    Raises:
        FileNotFoundError, TypeError, UserError: as `load_image`.
    """
    image = _open(path, with_pixels=False)
    is_swapped = upright and image.info["orientation"] >= 5 and image.format != "TIFF"
    return (image.width, image.height) if is_swapped else (image.height, image.width)


def load_image(path: PathLike) -> Image.Image:
    """Read an image with all its pixels, as it is in the file; TIFF is upright already.

    Returns:
        Pillow's image, whose ``info`` has "bits", those of a channel in the file (of colours of 16,
        Pillow keeps the upper 8); "pages", how many it has; and "orientation", EXIF's.

    Raises:
        FileNotFoundError: no such file.
        TypeError: ``path`` is no path.
        UserError: the file is no image, damaged, truncated or too large; names the file.
    """
    return _open(path, with_pixels=True)


def open_file(path: PathLike) -> IO[bytes]:
    """Open an image file, or what else detectron2's PathManager opens; errors as `load_image`."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"expected the path of an image, got {type(path).__name__}")
    if isinstance(path, TarMember):
        return path.open()
    try:
        return open_path(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Image file not found: {path}") from error
    except ValueError as error:  # a name that no file can have
        raise UserError(f"Cannot read {path!r}: {error}") from error


def orientation(image: Image.Image) -> int:
    """Return how an image has to be turned, as EXIF counts it; 1 for not at all."""
    with suppress(Exception):  # damaged EXIF does not make the pixels unreadable
        tag = image.getexif().get(_ORIENTATION, 1)
        return tag if isinstance(tag, int) and tag <= 8 else 1  # it may be of any type
    return 1


def no_data(image: Image.Image) -> Any:
    """Return the text of GDAL's tag in a TIFF, see `pixels.no_data_value`; None without one."""
    with suppress(Exception):  # damaged tags do not make the pixels unreadable
        return getattr(image, "tag_v2", {}).get(NO_DATA)
    return None


def turn(image: Image.Image, tag: int, *, back: bool = False) -> Image.Image:
    """Turn an image upright that has this orientation, or back to how it was stored."""
    method = _TURNS.get(_BACK.get(tag, tag) if back else tag)
    return image if method is None else image.transpose(method)


def is_lfs_pointer(start: bytes) -> bool:
    """Return whether a file that starts so is a pointer of Git LFS."""
    return start.startswith(_LFS)


def _open(path: PathLike, with_pixels: bool) -> Image.Image:
    with open_file(path) as file:
        start = file.read(64)
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            image = Image.open(file)
            _check_length(image, length)
            # Phones keep previews behind a photo.
            pages = 1 if image.format == "MPO" else _count_pages(image)
            bits = 16 if any(";16" in str(tile[3]) for tile in image.tile) else 8
            tag = orientation(image)  # loading a TIFF turns it and drops the tag
            if with_pixels:
                image.load()
        except Exception as error:  # of any kind, as damaged files lead decoders astray
            raise UserError(f"Cannot read {path}: {_reason(error, start)}") from error
        image.info |= {"bits": bits, "pages": pages, "orientation": tag}
        return image


def _count_pages(image: Image.Image) -> int:
    """Return how many pages a file has before one that Pillow cannot read, such as a mask."""
    try:
        return getattr(image, "n_frames", 1)
    except SyntaxError:
        if not image.tell():
            raise  # it is the first
        pages = image.tell()
        image.seek(0)
        return pages


def _check_length(image: Image.Image, length: int) -> None:
    """Raise a UserError where a file is too short for the size that its head claims: what it lacks
    would be read as zeros, and take memory as it takes the file's word."""
    if image.format in _DENSER or image.mode == "1":
        return
    if image.width * image.height > _PIXELS_PER_BYTE * length:
        raise UserError(f"{length} bytes cannot hold {image.width}x{image.height} pixels")


def _reason(error: Exception, start: bytes) -> str:
    """Return why an image cannot be read that starts with these bytes."""
    if is_lfs_pointer(start):
        return LFS_POINTER
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too large ({error}); set INPUT.MAX_PIXELS to read it all the same"
    is_tiff = start.startswith(_TIFF)
    if not isinstance(error, UnidentifiedImageError):
        return f"damaged or truncated ({error})" + (f". {_OTHER_TIFF}" if is_tiff else "")
    if is_tiff:
        return f"a TIFF of a kind that Pillow does not know. {_OTHER_TIFF}"
    return "not an image, or of an unknown format"
