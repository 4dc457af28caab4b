"""The forms in which an annotation may hold its mask: polygons, RLE, bitmap."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.utils.logger import log_first_n

from ..errors import UserError
from .rle import RLE, area, as_text, decode, draw_polygons, merge, paint

Annotation = Mapping[str, Any]

_MAX_COORDINATE = 1e6  # pixels: what pycocotools allocates grows with the length of an outline


@contextmanager
def error_prefix(where: str) -> Iterator[None]:
    """Say in the message of a UserError that the block raises where it happened."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def describe(annotation: Annotation, index: int) -> str:
    """Return what messages call an annotation: its id, else its index in the list of its image."""
    return f"annotation {annotation['id']}" if "id" in annotation else f"annotation number {index}"


def compress(segmentation: Any, height: int, width: int) -> RLE:
    """Turn a mask as annotation files hold it into a compressed RLE, for scoring.

    Polygons are drawn as pycocotools draws them: half a point at the end does not count, and what
    has fewer than three points covers nothing.

    Args:
        segmentation: an RLE with counts as text, bytes or list; or a list of polygons
            ``[x0, y0, x1, y1, ...]`` in pixels, or of RLE, which are united.
        height, width: size in pixels of the image that the mask belongs to.

    Raises:
        UserError: no mask at all; an RLE of another size, damaged, or with runs that do not cover
            the image; a coordinate that is no number or far outside.
    """
    if isinstance(segmentation, Mapping):
        return as_text(segmentation, height, width)
    parts = _parts(segmentation)
    if parts and all(isinstance(part, Mapping) for part in parts):
        return merge([as_text(part, height, width) for part in parts])
    numbers = [_numbers(part) for part in parts]
    polygons = [part[: part.size // 2 * 2] for part in numbers if part.size >= 6]
    if not polygons:
        return as_text({"size": [height, width], "counts": [height * width]}, height, width)
    return draw_polygons(polygons, height, width)


def valid_polygons(annotation: Annotation, index: int) -> list[np.ndarray] | None:
    """Return the polygons of an annotation as arrays (P, 2) of x, y in pixels.

    Polygons with fewer than three points, or half a point, are left out with a line in the log,
    as detectron2 and the YouTube-VIS loader do. None where the mask has another form.

    Raises:
        UserError: no segmentation, one of an unknown form, or coordinates that are no numbers.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, (Mapping, np.ndarray)):
        return None
    name = describe(annotation, index)
    with error_prefix(name):
        numbers = [_numbers(part) for part in _parts(segmentation)]
    valid = [part.reshape(-1, 2) for part in numbers if part.size >= 6 and part.size % 2 == 0]
    if len(valid) < max(len(numbers), 1):
        log_first_n(
            logging.WARNING,
            f"Left out polygons with fewer than 3 points, first in {name}; "
            "`python -m mask2former.data.check` lists them all.",
            key="caller",
        )
    return valid


def decode_bitmap(annotation: Annotation, index: int, size: tuple[int, int]) -> np.ndarray:
    """Decode the RLE or take the bitmap of an annotation.

    Args:
        size: (H, W) that it must have, in pixels.

    Returns:
        (H, W) uint8 of 0 and 1.

    Raises:
        UserError: of another size, or damaged; names the annotation.
    """
    segmentation, name = annotation["segmentation"], describe(annotation, index)
    if isinstance(segmentation, Mapping):
        with error_prefix(name):
            return decode(as_text(segmentation, *size))
    if segmentation.shape != tuple(size):
        raise UserError(
            f"{name}: expected a bitmap of (height, width) {tuple(size)}, got {segmentation.shape}"
        )
    return (segmentation != 0).view(np.uint8)


def draw_mask(annotation: Annotation, index: int, size: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W), bool, of an annotation in any form.

    Raises:
        UserError: as `valid_polygons` and `decode_bitmap`.
    """
    polygons = valid_polygons(annotation, index)
    if polygons is None:
        return decode_bitmap(annotation, index, size).view(bool)
    mask = np.zeros(size, bool)
    if polygons:
        rasterise(polygons, mask)
    return mask


def rasterise(polygons: Sequence[np.ndarray], mask: np.ndarray) -> bool:
    """Set the pixels of ``mask`` (H, W) bool, all False so far, that the polygons cover.

    The result is what pycocotools draws on the whole mask. It rounds coordinates to fifths and then
    works in floats, so that on a part of the mask, with coordinates moved, it draws otherwise.

    Args:
        polygons: arrays (P, 2) of x, y in pixels, which may lie outside; overlaps unite.

    Returns:
        Whether any part of a polygon lies inside, be it too small to set a pixel.
    """
    points = np.concatenate(polygons)
    if (points.max(axis=0) < -1).any() or (points.min(axis=0) > mask.shape[::-1]).any():
        return False
    rle = draw_polygons(polygons, *mask.shape)
    paint(rle, mask)
    return area(rle) > 0 or any(_area_within(polygon, mask.shape) > 0 for polygon in polygons)


def _parts(segmentation: Any) -> Sequence[Any]:
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes):
        return segmentation
    raise UserError(
        "segmentation: expected polygons, an RLE or a bitmap, "
        f"got {'none' if segmentation is None else type(segmentation).__name__}"
    )


def _numbers(polygon: Any) -> np.ndarray:
    try:
        numbers = np.asarray(polygon, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        numbers = None
    if numbers is None or np.ndim(polygon) == 0:
        raise UserError(
            "segmentation: expected a list of polygons [x0, y0, x1, y1, ...], "
            f"got {polygon!r} in the place of a polygon"
        )
    if not (np.abs(numbers) < _MAX_COORDINATE).all():  # false for NaN too
        raise UserError("a polygon has a coordinate that is no number or far outside of the image")
    return numbers


def _area_within(polygon: np.ndarray, size: tuple[int, ...]) -> float:
    """Area of the part of a polygon (P, 2) that lies in [0, W] x [0, H], by Sutherland-Hodgman."""
    for axis, limit in ((0, size[1]), (1, size[0])):
        for side, sign in ((0, 1), (limit, -1)):
            distance = sign * (polygon[:, axis] - side)  # not negative: inside
            following, ahead = np.roll(polygon, -1, axis=0), np.roll(distance, -1)
            crosses = (distance >= 0) != (ahead >= 0)
            fraction = np.where(crosses, distance, 0) / np.where(crosses, distance - ahead, 1)
            crossing = polygon + fraction[:, None] * (following - polygon)
            candidates = np.stack([polygon, crossing], axis=1)  # each corner, then its edge
            polygon = candidates[np.stack([distance >= 0, crosses], axis=1)]
    x, y = polygon.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)
