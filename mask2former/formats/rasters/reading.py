"""Images that are read in windows, whatever they are: TIFF from the disk, others from memory."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ..atomic import PathLike
from ..images import read_image, to_array
from ..opening import open_path
from ..pixels import check_array, no_image
from .tiff import TiffRaster
from .tiff_checks import UnknownKindError

logger = logging.getLogger(__name__)

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class ArrayRaster:
    """An image in memory, (H, W, 3), uint8, RGB, as a raster."""

    georeference: tuple[tuple[Any, ...], ...] = ()

    def __init__(self, pixels: np.ndarray):
        self._pixels = pixels
        self.size: tuple[int, int] = (pixels.shape[0], pixels.shape[1])

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a window (h, w, 3)."""
        return self._pixels[rows, columns]

    def close(self) -> None:
        """Do nothing; files have to be closed."""


def open_raster(
    image: PathLike | Image.Image | np.ndarray,
    channels: Sequence[int] = (),
    *,
    exif_rotation: bool = True,
) -> TiffRaster | ArrayRaster:
    """Open an image that is read in windows.

    TIFF, GeoTIFF and OME-TIFF are read from the disk as far as windows need it, and those of kinds
    that only Pillow knows, and all other files, are read as a whole.

    Args:
        image: a file, a PIL image, or an array (H, W, 3) or (H, W) in RGB.
        channels: one channel or three for red, green and blue, counted from 1; needed for TIFF of
            others than 1 or 3 channels, or 4 of which one is transparency.
        exif_rotation: turn files and PIL images upright as their EXIF tag says.

    Returns:
        what has `size` (H, W), `georeference`, `read(rows, columns)`, which gives (h, w, 3) uint8,
        and `close()`.

    Raises:
        FileNotFoundError: the file is missing.
        TypeError: it is none of these.
        UserError: it is no image, cut off, or has channels to choose from.
        MissingPackageError: a TIFF, and tifffile is missing.
    """
    if isinstance(image, np.ndarray):
        return ArrayRaster(check_array(image))
    if isinstance(image, Image.Image):
        return ArrayRaster(to_array(image, exif_rotation=exif_rotation))
    if not hasattr(image, "__fspath__") and not isinstance(image, str):
        raise no_image(image)
    if _is_tiff(image):
        try:
            return TiffRaster(image, channels)
        except UnknownKindError as error:
            logger.warning("%s: read as a whole, as it %s", image, error)
    if channels:
        raise UserError(f"{image}: channels can be chosen of TIFF files of numbers only")
    return ArrayRaster(read_image(image, exif_rotation=exif_rotation))


def _is_tiff(path: PathLike) -> bool:
    try:
        with open_path(path) as file:
            return file.read(4) in _TIFF
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Image file not found: {path}") from error
    except (IsADirectoryError, ValueError) as error:
        raise UserError(f"Cannot read {path}: {error}") from error
