"""The masks of objects: every form that tools write, brought into polygons or compressed RLE."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import UserError
from ...formats.rle import as_text, bounding_box, encode_masks, merge, run_lengths
from ..findings import Findings
from .fields import kind_of, number, pixels

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels

_FAR = 20  # pixels; smaller differences of a box are those of rounding
_FAR_AWAY = 1e9  # pixels; boxes beyond are no numbers of pixels
_MAX_DEPTH = 4  # of lists of polygons
_MAX_COORDINATE = 1e6  # pixels
_MAX_OUTLINE = (
    1e7  # pixels around all polygons of an object: pycocotools allocates 80 bytes a pixel
)


class MaskReader:
    """Read segmentations of one file, which may be of different forms.

    Args:
        findings: to which those of the masks are added.
        boxes_as_masks: take the box of an object that has no mask.

    Attributes:
        polygons, in_unit_square: how many objects with polygons there were, and how many of them
            had all coordinates in 0 to 1.
        without: how many had no segmentation at all.
    """

    def __init__(self, findings: Findings, boxes_as_masks: bool = False):
        self._findings = findings
        self._boxes_as_masks = boxes_as_masks
        self.polygons = self.in_unit_square = self.without = 0

    def read(
        self, annotation: dict[str, Any], item: str, size: tuple[int, int] | None
    ) -> Box | None:
        """Replace the segmentation of an annotation by a sound one.

        Args:
            annotation: with or without ``segmentation``; and ``bbox`` (x, y, width, height).
            item: what messages call it.
            size: (H, W) of its image in pixels, where it is known.

        Returns:
            the extent of the mask; None where there is no usable one, which is a finding.
        """
        value = annotation.get("segmentation")
        if isinstance(value, list):
            if size and _is_bitmap(value, size):
                self._findings.add("polygon-form", item, found="a bitmap")
                return self._read_rle(annotation, item, size, encode_masks(np.array([value]) > 0))
            if value and all(type(part) is list for part in value):
                extent = _plain_extent(value)
                if extent is not None:
                    return self._counted(extent)
            if value and all(isinstance(part, Mapping) and "counts" in part for part in value):
                self._findings.add("polygon-form", item, found="RLE in a list")
                return self._read_rle(annotation, item, size, value)
        if isinstance(value, Mapping) and value:
            return self._read_rle(annotation, item, size, [value])
        if _is_nothing(value):
            return self._read_box(annotation, item, value)
        if not isinstance(value, list):
            self._findings.add("mask-form", item, found=kind_of(value))
            return None
        return self._read_polygons(annotation, item, value)

    def _counted(self, extent: Box) -> Box:
        self.polygons += 1
        self.in_unit_square += extent[2] <= 1 and extent[3] <= 1 and min(extent[:2]) >= 0
        return extent

    def _read_box(self, annotation: dict[str, Any], item: str, value: Any) -> Box | None:
        self.without += 1
        box = usable_box(annotation.get("bbox"))
        if not self._boxes_as_masks or box is None:
            self._findings.add("mask-missing", item, value=value)
            return None
        x, y, width, height = box
        self._findings.add("mask-from-box", item)
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        annotation["segmentation"] = [corners]
        return x, y, x + width, y + height

    def _read_rle(
        self,
        annotation: dict[str, Any],
        item: str,
        size: tuple[int, int] | None,
        parts: Sequence[Mapping[str, Any]],
    ) -> Box | None:
        """Read one RLE, or several that are the parts of one object."""
        try:
            size = size or _own_size(parts[0])
            texts = [_compressed(part, *size) for part in parts]
        except UserError as error:
            self._findings.add("rle-damaged", item, problem=error)
            return None
        rle = annotation["segmentation"] = texts[0] if len(texts) == 1 else merge(texts)
        x, y, width, height = bounding_box(rle)
        return x, y, x + width, y + height

    def _read_polygons(self, annotation: dict[str, Any], item: str, value: list[Any]) -> Box | None:
        """Read what is no plain list of sound polygons."""
        parts, forms = _flatten(value)
        if len(parts) == 0:
            self._findings.add("mask-form", item, found="lists in lists in lists")
            return None
        if forms:
            self._findings.add("polygon-form", item, found=forms)
        sound = [[number(v) for v in part] for part in parts]
        if not all(v is not None and abs(v) < _MAX_COORDINATE for part in sound for v in part):
            self._findings.add("polygon-coordinates", item)
            return None
        if any(len(part) % 2 for part in sound if len(part) > 6):
            self._findings.add("polygon-odd", item)
        whole = [part[: len(part) // 2 * 2] for part in sound if len(part) >= 6]
        if not whole:
            self._findings.add("polygon-short", item)
            return None
        if len(whole) < len(sound):
            self._findings.add("polygon-part-short", item)
        outline = sum(map(_outline, whole))
        if outline > _MAX_OUTLINE:
            self._findings.add("polygon-endless", item, outline=f"{outline:.0f}")
            return None
        annotation["segmentation"] = whole
        return self._counted(_extent(whole))


def usable_box(value: Any) -> list[float] | None:
    """Return x, y, width and height of a bbox whose sides are not negative; None for others."""
    try:
        x, y, width, height = value
        if width >= 0 and height >= 0 and abs(x) + abs(y) + width + height < _FAR_AWAY:
            return value if type(value) is list else [x, y, width, height]
    except (TypeError, ValueError):  # text, null, another number of values
        pass
    if isinstance(value, list) and len(value) == 4:
        box = [number(v) for v in value]
        if all(v is not None for v in box):
            return usable_box(box) if any(type(v) is str for v in value) else None
    return None


def box_contradicts(box: Sequence[float], extent: Box) -> bool:
    """Return whether a side of a box (x, y, width, height) is far from the extent of the mask."""
    x, y, width, height = box
    x0, y0, x1, y1 = extent
    worst = max(abs(x - x0), abs(y - y0), abs(x + width - x1), abs(y + height - y1))
    return worst > _FAR and worst > 0.2 * (x1 - x0) and worst > 0.2 * (y1 - y0)


def _plain_extent(polygons: Sequence[list[Any]]) -> Box | None:
    """Return the extent of polygons that are lists of numbers; None where something may be odd.

    Most files have nothing else, and have it a million times: this looks at each number in C only.
    """
    values = 0
    try:
        for polygon in polygons:
            values += len(polygon)
            if len(polygon) < 6 or len(polygon) % 2 or sum(polygon) * 0 != 0:  # NaN, infinity
                return None
        x0, y0, x1, y1 = _extent(polygons)
    except (TypeError, OverflowError):  # text, null or a list in the place of a number
        return None
    if min(x0, y0) <= -_MAX_COORDINATE or max(x1, y1) >= _MAX_COORDINATE:
        return None
    may_be_endless = values / 2 * max(x1 - x0, y1 - y0) > _MAX_OUTLINE
    return None if may_be_endless else (x0, y0, x1, y1)


def _extent(polygons: Sequence[list[Any]]) -> Box:
    x0 = y0 = _FAR_AWAY
    x1 = y1 = -_FAR_AWAY
    for polygon in polygons:
        x, y = polygon[::2], polygon[1::2]
        x0, y0 = min(x0, min(x)), min(y0, min(y))
        x1, y1 = max(x1, max(x)), max(y1, max(y))
    return x0, y0, x1, y1


def _outline(polygon: Sequence[Any]) -> float:
    """Return the length of the outline of a polygon as pycocotools walks it, in pixels."""
    points = np.reshape(np.array(polygon, np.float64), (-1, 2))
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _flatten(value: list[Any], depth: int = 0) -> tuple[list[list[Any]], str]:
    """Return polygons of lists that are flat, of pairs, or nested deeper; and what they were."""
    if depth > _MAX_DEPTH:
        return [], ""
    if not any(isinstance(part, list) for part in value):
        if value and all(isinstance(part, Mapping) and {"x", "y"} <= part.keys() for part in value):
            return [[part[key] for part in value for key in ("x", "y")]], "a list of x and y"
        return [value], "a flat list"
    if all(_is_pair(part) for part in value) and len(value) >= 3:
        return [[v for pair in value for v in pair]], "a list of pairs"
    parts: list[list[Any]] = []
    form = ""
    for part in value:
        if not isinstance(part, list) or not any(isinstance(v, list | Mapping) for v in part):
            parts.append(part if isinstance(part, list) else [part])
            continue
        inner, found = _flatten(part, depth + 1)
        form = "of pairs" if all(map(_is_pair, part)) else found or "nested deeper"
        parts += inner
    return parts, form


def _is_pair(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and not any(isinstance(v, list) for v in part)


def _is_nothing(value: Any) -> bool:
    """Return whether there is no mask: null, or an empty list, perhaps in a list."""
    is_empty = value is None or (isinstance(value, Sequence | Mapping) and len(value) == 0)
    return is_empty or (isinstance(value, list) and all(v in (None, [], [[]]) for v in value))


def _is_bitmap(value: list[Any], size: tuple[int, int]) -> bool:
    """Return whether lists are the rows of an image of this size (H, W), of 0 and 1 or 255."""
    rows_fit = len(value) == size[0] and all(
        isinstance(row, list) and len(row) == size[1] for row in value
    )
    return rows_fit and all(type(v) in (int, bool) and v in (0, 1, 255) for r in value for v in r)


def _compressed(rle: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return an RLE whose counts are text, after a check; they stay where they are text."""
    if isinstance(rle.get("counts"), str):
        run_lengths(rle, height, width)
        return dict(rle)
    return as_text(rle, height, width)


def _own_size(rle: Mapping[str, Any]) -> tuple[int, int]:
    size = rle.get("size")
    sides = [pixels(side) for side in size] if isinstance(size, list | tuple) else []
    if len(sides) != 2 or sides[0] is None or sides[1] is None:
        raise UserError(f"RLE size: expected [height, width], got {size}")
    return sides[0], sides[1]
