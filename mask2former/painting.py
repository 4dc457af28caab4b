"""Painting: coloured regions over images, and pages of pictures side by side."""

import html
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .formats.atomic import atomic_path
from .formats.images import write_image
from .formats.names import short_name


class Region(NamedTuple):
    """What is painted in one colour.

    Attributes:
        mask: (H, W), bool.
        colour: (3,), RGB in 0..1.
        name: written on it.
    """

    mask: np.ndarray
    colour: np.ndarray
    name: str


class _Look(NamedTuple):
    """How images are painted.

    Attributes:
        opacity: of the colour inside of a region.
        corners: whether pixels at its corners are neighbours; pixels with a neighbour outside of
            the region are its outline.
        beyond: whether neighbours beyond the image count as inside.
        below: whether names stand below the point that they belong to, or around it.
        min_short_side, max_long_side: in pixels; smaller images are enlarged, so
            that letters find room.
    """

    opacity: float
    corners: bool
    beyond: bool
    below: bool
    min_short_side: int
    max_long_side: int


_STILL = _Look(0.55, True, True, True, 384, 2048)
_QUICK = _Look(0.5, False, False, False, 256, 1 << 30)
_GROUND = 0.2  # what remains of a colour's brightness behind the letters
_MEASURED_SIDE = 160  # longer side, in pixels, at which the middle of a region is looked for
_STEP, _DIAGONAL = 955, 1369  # to the next pixel, in thousandths (Borgefors 1986, 3x3, Euclidean)

_NUMBER = 8  # bytes of a number behind a file's name

_Name = tuple[str, tuple[float, float], np.ndarray]  # text, point (x, y), colour in 0..1


_PAGE_STYLE = """
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; background: #f6f6f4; color: #222; }
  h1 { font-size: 1.3rem; } .note { color: #555; max-width: 60rem; }
  .rows { display: grid; gap: 1rem; margin-top: 1.5rem; }
  .row { display: grid; grid-template-columns: repeat(COLUMNS, minmax(0, 24rem)); gap: .5rem; }
  figure { margin: 0; } img { width: 100%; border-radius: 4px; display: block; }
  figcaption { font-size: .8rem; color: #555; overflow-wrap: anywhere; }
"""


def paint(image: np.ndarray, regions: Iterable[Region], *, quick: bool = False) -> np.ndarray:
    """Tint regions over an image in their order, and give each an outline and its name.

    Small images are enlarged by a whole number, so that the smallest region can be seen.

    Args:
        image: (H, W, 3), uint8, RGB.
        regions: those without a pixel are left out.
        quick: as for video: enlarged less, thinner outlines, which run along the margins, too.

    Returns:
        (nH, nW, 3), uint8, RGB, of the enlargement n.

    Raises:
        ValueError: the image is no such array, or the mask of a region has another size.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image: expected (H, W, 3) uint8, got {image.shape} of {image.dtype}")
    look = _QUICK if quick else _STILL
    times = _enlargement(*image.shape[:2], look)
    picture = _enlarge(image, times)
    names: list[_Name] = []
    for mask, colour, name in regions:
        if mask.shape != image.shape[:2]:
            raise ValueError(
                f"{name}: expected a mask of the image's size {image.shape[:2]} (height, width), "
                f"got {mask.shape}"
            )
        box = _bounding_box(mask)
        if box is None:
            continue
        top, bottom, left, right = box
        part = mask[top:bottom, left:right]  # with its neighbours
        below = picture[top * times : bottom * times, left * times : right * times]
        _tint(below, _enlarge(part, times), np.asarray(colour) * 255, look)
        x, y = _innermost(part)
        names.append((name, ((left + x + 0.5) * times, (top + y + 0.5) * times), colour))
    return _write(picture, names, look) if names else picture


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return the rows and columns of a mask and a pixel around: top, bottom, left, right; the
    second and the fourth are one past the last. None where it is empty."""
    rows = np.flatnonzero(mask.any(1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(0))
    edges = (rows[0] - 1, rows[-1] + 2, columns[0] - 1, columns[-1] + 2)
    limits = np.repeat(mask.shape, 2)
    top, bottom, left, right = np.clip(edges, 0, limits).tolist()
    return top, bottom, left, right


def _enlargement(height: int, width: int, look: _Look) -> int:
    wanted = -(-look.min_short_side // min(height, width))
    return max(1, min(wanted, look.max_long_side // max(height, width)))


def _enlarge(pixels: np.ndarray, times: int) -> np.ndarray:
    """Return a copy (nH, nW, ...) of (H, W, ...)."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _tint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray, look: _Look) -> None:
    """Mix a colour (0..255) into the pixels of a mask, in place; its outline gets it unmixed."""
    table = (1 - look.opacity) * np.arange(256)[:, None] + look.opacity * colour
    table = table.round().astype(np.uint8)
    outline = mask & ~_eroded(mask, look)
    for channel, value in enumerate(colour.round().astype(np.uint8)):
        below = picture[..., channel]
        np.copyto(below, table[:, channel].take(below), where=mask)
        np.copyto(below, value, where=outline)


def _eroded(mask: np.ndarray, look: _Look) -> np.ndarray:
    """Return the pixels of a mask (H, W) all of whose neighbours are inside."""
    padded = np.pad(mask, 1, constant_values=look.beyond)
    beside = padded[:, :-2] & padded[:, 2:]
    if look.corners:
        lines = beside & padded[:, 1:-1]
        return lines[:-2] & lines[1:-1] & lines[2:]
    return mask & beside[1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1]


def _innermost(mask: np.ndarray) -> tuple[int, int]:
    """Return a pixel (x, y) of a mask that is about as far as any from all outside it."""
    times = -(-max(mask.shape) // _MEASURED_SIDE)
    small = mask[::times, ::times]
    if not small.any():
        small, times = mask, 1
    distances = np.where(np.pad(small, 1), np.int32(1 << 30), np.int32(0))
    along = _STEP * np.arange(distances.shape[1], dtype=np.int32)
    for _ in range(2):  # from the upper left, then from the lower right
        above = distances[0]
        for row in distances[1:]:
            np.minimum(row, above + _STEP, out=row)
            np.minimum(row[1:], above[:-1] + _DIAGONAL, out=row[1:])
            np.minimum(row[:-1], above[1:] + _DIAGONAL, out=row[:-1])
            row[:] = np.minimum.accumulate(row - along) + along
            above = row
        distances = distances[::-1, ::-1]
    y, x = np.unravel_index(distances.argmax(), distances.shape)
    return int(x - 1) * times, int(y - 1) * times


def _write(picture: np.ndarray, names: list[_Name], look: _Look) -> np.ndarray:
    """Write names in white at points, each on a dark ground of its colour."""
    page = Image.fromarray(picture)
    draw = ImageDraw.Draw(page)
    font = _font(int(np.clip(min(picture.shape[:2]) / 28, 11, 32)))
    for name, (x, y), colour in names:
        if not name:
            continue
        left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
        y = y if look.below else y - bottom / 2
        x = int(np.clip(int(x) - right / 2, 2, max(2, page.width - right - 2)))
        y = int(np.clip(int(y), 2, max(2, page.height - bottom - 2)))
        ground = tuple((np.asarray(colour) * 255 * _GROUND).astype(int).tolist())
        draw.rectangle((x + left - 2, y + top - 2, x + right + 1, y + bottom + 1), fill=ground)
        draw.text((x, y), name, font=font, fill=(255, 255, 255))
    return np.asarray(page)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class ContactSheet:
    """Write pictures into a folder and, in the end, `index.html` that shows them side by side.

    Args:
        folder: made if it is missing.
        title: heading of the page.
        columns: names of the pictures of a row.

    Raises:
        OSError: the folder cannot be made or written; of the kind that the system reports.
    """

    def __init__(self, folder: str | os.PathLike[str], title: str, columns: Sequence[str]):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise type(error)(
                f"folder {os.fspath(folder)!r} cannot be written ({error.strerror}); choose another"
            ) from error
        self.title = title
        self.columns = list(columns)
        self._rows: list[tuple[str, dict[str, str]]] = []
        self._names: set[str] = set()

    def add(self, name: str, pictures: Mapping[str, np.ndarray]) -> None:
        """Write the pictures of one row.

        Args:
            name: of the row; files are called after it, with a number if it came before, and
                shorter where the file system needs it.
            pictures: (H, W, 3), uint8, RGB, by column; columns may be missing.
        """
        room = max((len(_file_end(column)) for column in self.columns), default=0) + _NUMBER
        stem = self._unused(short_name(name.replace(os.sep, "_"), room))
        files = {}
        for column, picture in pictures.items():
            file = f"{stem}{_file_end(column)}"
            write_image(self.folder / file, picture, quality=92)
            files[column] = file
        self._rows.append((name, files))

    def write(self, note: str = "") -> Path:
        """Write the page over all rows so far and return its path."""
        rows = "\n".join(self._row_html(name, files) for name, files in self._rows)
        style = _PAGE_STYLE.replace("COLUMNS", str(len(self.columns)))
        title, note = html.escape(self.title), html.escape(note)
        page = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{style}</style></head>\n<body><h1>{title}</h1><p class=note>{note}</p>"
            f"<div class=rows>\n{rows}\n</div></body></html>\n"
        )
        target = self.folder / "index.html"
        with atomic_path(target, sync=False) as path:  # names of files need not be Unicode
            path.write_text(page, encoding="utf-8", errors="replace")
        return target

    def _row_html(self, name: str, files: Mapping[str, str]) -> str:
        figures = []
        for column in self.columns:
            caption = html.escape(f"{column}: {name}" if column == self.columns[0] else column)
            picture = ""
            if column in files:
                link = quote(os.fsencode(files[column]))
                picture = f'<a href="{link}"><img loading="lazy" src="{link}" alt="{caption}"></a>'
            figures.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
        return f"<div class=row>{''.join(figures)}</div>"

    def _unused(self, name: str) -> str:
        stem, number = name, 1
        while stem in self._names:
            number += 1
            stem = f"{name}_{number}"
        self._names.add(stem)
        return stem


def _file_end(column: str) -> str:
    """Return what follows the name of a row in the file of a column."""
    return f"_{column.lower().replace(' ', '_')}.jpg"
