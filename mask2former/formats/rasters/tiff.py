"""TIFF, GeoTIFF and OME-TIFF that are read in windows, through tifffile."""

import logging
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import MissingPackageError, UserError
from ..atomic import PathLike
from ..pillow import NO_DATA
from ..pixels import no_data_value, spread_over_16, to_8_bits
from .package import import_tifffile
from .tiff_checks import (
    UnknownKindError,
    require_complete,
    require_end,
    require_known,
    require_numbers,
    require_segments,
)

logger = logging.getLogger(__name__)

# Tags that say where on earth an image lies: GeoTIFF 1.1, section 2; RPCs.
_GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
_ALPHA = (1, 2)  # values of ExtraSamples that stand for transparency


class TiffRaster:
    """A TIFF, or the first image of several in it, at its full resolution.

    Values of more than 8 bits are scaled by the range of all, see `to_8_bits`, which is found by
    reading the file once more. Those that GDAL's tag calls no data are black, and not of the range.

    Args:
        path: of the file.
        channels: which are red, green and blue, counted from 1; see `open_raster`.

    Attributes:
        size: (H, W).
        georeference: tags that say where on earth it is, as tifffile takes them.

    Raises:
        UserError: it is damaged, cut off, or has channels to choose from.
        UnknownKindError: colours that are none, such as those of palettes.
    """

    def __init__(self, path: PathLike, channels: Sequence[int] = ()):
        self._path = path
        tifffile = import_tifffile()
        with ExitStack() as opened:  # closes the file where it cannot be used
            try:
                self._file = opened.enter_context(tifffile.TiffFile(os.fspath(path)))
                require_end(path, self._file)
                series = self._file.series[0]
                levels = getattr(series, "levels", [series])
                self._series = levels[0]
                self._pages = [page for page in self._series.pages if page is not None]
                self._page = self._pages[0].keyframe
                self._set_up(channels)
            except (UserError, UnknownKindError):
                raise
            except Exception as error:  # of any kind, as damaged files lead parsers astray
                raise UserError(
                    f"Cannot read {path}: damaged or truncated TIFF ({error})"
                ) from error
            opened.pop_all()

    def _set_up(self, channels: Sequence[int]) -> None:
        page = self._page
        require_known(page)
        require_numbers(self._path, page)
        require_complete(self._path, self._pages)
        self.size: tuple[int, int] = (page.imagelength, page.imagewidth)
        tags = (page.tags.get(code) for code in _GEOREFERENCE)
        self.georeference = tuple(
            (tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in tags if tag
        )
        axes = self._series.axes
        separate = axes.startswith("C") and len(self._pages) > 1
        self._count = len(self._pages) if separate else page.samplesperpixel
        self._of_pages = separate
        if not separate and len(self._pages) > 1:
            logger.warning("%s has several pages, of which the first is read", self._path)
        self._channels = self._choose(channels)
        self._require_segments()
        self._kept: dict[tuple[int, int], np.ndarray] = {}  # segments of the rows that are read

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a window (h, w, 3), uint8; windows from top to bottom are fast."""
        window = self._values(rows, columns)
        if window.dtype != np.uint8:
            window, _ = to_8_bits(window, self._range, self._no_data)
        return np.repeat(window, 3, axis=2) if window.shape[2] == 1 else window

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The least and largest value of the chosen channels, without no data."""
        low, high, is_spread = 0.0, 0.0, True
        step = max(self._page.chunks[-3 if len(self._page.chunks) > 2 else 0], 256)
        for start in range(0, self.size[0], step):
            rows = slice(start, min(start + step, self.size[0]))
            values = self._values(rows, slice(0, self.size[1]))
            if values.dtype.kind == "f":
                values = values[np.isfinite(values)]
            if self._no_data is not None:
                values = values[values != self._no_data]
            is_spread &= spread_over_16(values)
            low = min(low, float(values.min(initial=0)))
            high = max(high, float(values.max(initial=0)))
        return low, 2.0**16 - 1 if is_spread and high > 255 else high

    @cached_property
    def _no_data(self) -> Any:
        """The value of pixels that were not seen; None where there is none."""
        tag = self._page.tags.get(NO_DATA)
        return None if tag is None else no_data_value(tag.value, self._page.dtype)

    def _values(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a window of the chosen channels, (h, w, 1) or (h, w, 3), as in the file."""
        shape = (rows.stop - rows.start, columns.stop - columns.start, len(self._channels))
        window = np.zeros(shape, self._page.dtype)
        self._kept = {key: s for key, s in self._kept.items() if self._is_below(key, rows.start)}
        places: dict[tuple[int, int], list[int]] = {}  # of the result, by where they come from
        planes = [self._plane(channel) for channel in self._channels]
        for place, (page, first, _) in enumerate(planes):
            places.setdefault((page, first), []).append(place)
        for (page, first), chosen in places.items():
            self._fill(window, chosen, page, first, [planes[i][2] for i in chosen], rows, columns)
        return window

    def _plane(self, channel: int) -> tuple[int, int, int]:
        """Return where a channel is: its page, its first segment, its place in the pixels."""
        if self._of_pages:
            return channel, 0, 0
        if self._is_planar:
            return 0, channel * self._grid[0] * self._grid[1], 0
        return 0, 0, channel

    @cached_property
    def _segment(self) -> tuple[int, int]:
        """(h, w) of a tile or strip."""
        page = self._page
        if page.is_tiled:
            return page.tilelength, page.tilewidth
        return min(page.rowsperstrip, page.imagelength), page.imagewidth

    @cached_property
    def _grid(self) -> tuple[int, int]:
        """Numbers of segments along height and width."""
        (height, width), (h, w) = (self._page.imagelength, self._page.imagewidth), self._segment
        return -(-height // h), -(-width // w)

    def _is_below(self, key: tuple[int, int], row: int) -> bool:
        """Tell whether a segment ends below a row."""
        line = key[1] % (self._grid[0] * self._grid[1]) // self._grid[1]
        return (line + 1) * self._segment[0] > row

    def _fill(
        self,
        window: np.ndarray,
        places: Sequence[int],
        page: int,
        first: int,
        samples: Sequence[int],
        rows: slice,
        columns: slice,
    ) -> None:
        """Set channels of a window from the segments of a page that it meets."""
        h, w = self._segment
        for line in range(rows.start // h, -(-rows.stop // h)):
            for place in range(columns.start // w, -(-columns.stop // w)):
                part = self._decoded(page, first + line * self._grid[1] + place)
                y, x = line * h, place * w
                top, left = max(rows.start, y), max(columns.start, x)
                bottom = min(rows.stop, y + part.shape[0])
                right = min(columns.stop, x + part.shape[1])
                target = window[
                    top - rows.start : bottom - rows.start,
                    left - columns.start : right - columns.start,
                ]
                source = part[top - y : bottom - y, left - x : right - x]
                target[..., places] = source[..., samples]

    def _decoded(self, number: int, index: int) -> np.ndarray:
        """Return a segment (h, w, S)."""
        key = (number, index)
        if key not in self._kept:
            page = self._pages[number]
            offset, length = page.dataoffsets[index], page.databytecounts[index]
            keyframe = page.keyframe
            tables = {} if keyframe.jpegtables is None else {"jpegtables": keyframe.jpegtables}
            try:
                handle = self._file.filehandle
                handle.seek(offset)
                data = handle.read(length) if length else None
                found = keyframe.decode(data, index, _fullsize=False, **tables)[0]
            except ImportError as error:
                raise MissingPackageError(
                    f"{self._path}: its compression {keyframe.compression.name} needs imagecodecs: "
                    "pip install imagecodecs"
                ) from error
            except Exception as error:  # of any kind, as damaged files lead decoders astray
                raise UserError(
                    f"Cannot read {self._path}: damaged or truncated ({error})"
                ) from error
            if found is None:
                part = np.zeros((*self._shape(index), self._samples), keyframe.dtype)
            else:
                part = found[0]
            if part.ndim != 3 or part.shape[2] < self._samples:
                raise UserError(f"Cannot read {self._path}: segment {index} lacks channels")
            self._kept[key] = part
        return self._kept[key]

    def _shape(self, index: int) -> tuple[int, int]:
        """Return (h, w) of a segment, smaller ones at the end."""
        (h, w), (rows, columns) = self._segment, self._grid
        line, place = divmod(index % (rows * columns), columns)
        return min(h, self.size[0] - line * h), min(w, self.size[1] - place * w)

    @property
    def _is_planar(self) -> bool:
        """Whether each channel of a page has segments of its own."""
        return int(self._page.planarconfig) == 2

    @cached_property
    def _samples(self) -> int:
        """The number of channels in a segment."""
        return 1 if self._is_planar or self._of_pages else int(self._page.samplesperpixel)

    def _require_segments(self) -> None:
        page = self._page
        is_planar = self._is_planar and not self._of_pages
        count = math.prod(self._grid) * (page.samplesperpixel if is_planar else 1)
        chosen = self._channels if self._of_pages else [0]
        size = math.prod(self._segment) * self._samples * page.dtype.itemsize
        require_segments(self._path, [self._pages[number] for number in chosen], count, size)

    def _choose(self, wanted: Sequence[int]) -> list[int]:
        """Return the channels to read, counted from 0."""
        count = self._count
        if wanted:
            if len(wanted) not in (1, 3) or not all(1 <= c <= count for c in wanted):
                raise UserError(
                    f"{self._path}: expected one channel, or three for red, green and blue, from 1 "
                    f"to {count}, got {' '.join(map(str, wanted))}"
                )
            return [c - 1 for c in wanted]
        extra = [int(value) for value in self._page.extrasamples]
        colours = count - sum(value in _ALPHA for value in extra)
        if self._of_pages or colours not in (1, 3):
            colours = count
        if colours not in (1, 3):
            raise UserError(
                f"{self._path} has {count} channels: which are red, green and blue? Give one or "
                "three, counted from 1, such as --channels 3 2 1"
            )
        return list(range(colours))
