"""What a TIFF must be to be read in windows, checked before its pixels are."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..atomic import PathLike
from .package import import_tifffile

_PLAIN = {"MINISBLACK", "RGB", "YCBCR"}  # photometric interpretations whose values are brightness
_TURNED = "is turned by its EXIF tag"
_MAX_RATIO = 8 * 1032  # of decoded bytes to those in the file; deflate reaches 1032
_LARGE = 2**26  # bytes of a decoded segment up to which the ratio does not matter


class UnknownKindError(Exception):
    """A TIFF that another reader may know; says what is unusual, such as "has a palette"."""


def require_end(path: PathLike, file: Any) -> None:
    """Raise UserError where the chain of pages has no end, which tifffile would follow for ever.

    Args:
        file: a TiffFile.
    """
    form, handle = file.tiff, file.filehandle

    def number(layout: str, at: int) -> int:
        """Return a number of the file; 0 where it has ended."""
        handle.seek(at)
        data = handle.read(struct.calcsize(layout))
        return struct.unpack(layout, data)[0] if len(data) == struct.calcsize(layout) else 0

    seen: set[int] = set()
    at = number(form.offsetformat, 8 if form.offsetsize == 8 else 4)
    while at and at < handle.size:
        if at in seen:
            raise UserError(f"Cannot read {path}: damaged TIFF, whose pages come round again")
        seen.add(at)
        tags = number(form.tagnoformat, at) * form.tagsize
        at = number(form.offsetformat, at + form.tagnosize + tags)


def require_known(page: Any) -> None:
    """Raise UnknownKindError where tifffile's values of a TiffPage are no brightness."""
    orientation = page.tags.get(274)
    if orientation is not None and orientation.value in range(2, 9):
        raise UnknownKindError(_TURNED)
    kind = page.photometric.name
    is_raw = kind == "YCBCR" and "JP" not in page.compression.name  # JPEG's decoders give RGB
    if kind not in _PLAIN or is_raw or page.bitspersample < 8:
        raise UnknownKindError(f"has values of {page.bitspersample} bits in the form {kind}")
    tables = import_tifffile().TIFF
    try:
        tables.DECOMPRESSORS[page.compression], tables.UNPREDICTORS[page.predictor]
    except (KeyError, ImportError) as error:
        raise UnknownKindError(f"needs imagecodecs for windows ({error.args[0]})") from error
    if page.imagedepth > 1 or page.dtype is None or page.dtype.kind not in "buif":
        raise UnknownKindError("has values of a kind that tifffile does not know")


def require_numbers(path: PathLike, page: Any) -> None:
    """Raise UserError where a size of a TiffPage is no whole number above 0."""
    sides = [page.imagelength, page.imagewidth, page.samplesperpixel, page.planarconfig]
    sides += [page.tilelength, page.tilewidth] if page.is_tiled else [page.rowsperstrip]
    if not all(isinstance(side, int | np.integer) and side > 0 for side in sides):
        raise UserError(f"Cannot read {path}: damaged TIFF, with sizes {sides!r:.200}")


def require_complete(path: PathLike, pages: Sequence[Any]) -> None:
    """Raise UserError where the file ends before the pixels of its TiffPages do."""
    has = Path(path).stat().st_size
    for page in pages:
        ends = map(sum, zip(page.dataoffsets, page.databytecounts))
        needs = max(ends, default=0)
        if needs > has or not needs:
            raise UserError(
                f"Cannot read {path}: the file is cut off: its pixels end at byte {needs}, it has "
                f"{has}; copy it again"
            )


def require_segments(path: PathLike, pages: Sequence[Any], count: int, size: int) -> None:
    """Raise UserError where tiles or strips are missing, or claim more than the file can hold.

    Args:
        pages: the TiffPages that are read.
        count: segments that each of them needs.
        size: bytes of a segment when it is decoded.
    """
    for page in pages:
        found = min(len(page.dataoffsets), len(page.databytecounts))
        if found < count:
            raise UserError(f"Cannot read {path}: damaged TIFF, {found} of {count} segments")
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in page.dataoffsets):
            raise UserError(f"Cannot read {path}: damaged TIFF, whose offsets are no numbers")
    has = Path(path).stat().st_size
    if size > max(_LARGE, _MAX_RATIO * has):
        raise UserError(f"Cannot read {path}: {has} bytes cannot hold segments of {size} bytes")
