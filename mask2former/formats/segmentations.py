"""The forms in which an annotation may hold its mask: polygons, RLE, bitmap."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.utils.logger import log_first_n

from .rle_text import decode_counts

__all__ = ["check_classes", "decode_bitmap", "describe", "rasterise", "valid_polygons"]

Annotation = Mapping[str, Any]

_FARTHEST = 1e6  # pixels; pycocotools takes memory in proportion to the length of an outline


def describe(annotation: Annotation, place: int) -> str:
    """How messages call an annotation: by its id, else by its place in the list of its image."""
    return f"annotation {annotation['id']}" if "id" in annotation else f"annotation number {place}"


def check_classes(classes: Sequence[int], num_classes: int, name: Callable[[int], str]) -> None:
    """Compares contiguous classes with those of the model.

    Args:
        name: how to call the one at a place.

    Raises:
        ValueError: one is not in 0 to ``num_classes`` - 1; names it.
    """
    for i, category in enumerate(classes):
        if not 0 <= category < num_classes:
            raise ValueError(
                f"{name(i)} has class {category}; MODEL.SEM_SEG_HEAD.NUM_CLASSES {num_classes} "
                f"allows 0 to {num_classes - 1}"
            )


def valid_polygons(annotation: Annotation, place: int) -> list[np.ndarray] | None:
    """Returns the polygons of an annotation as arrays (P, 2) of x, y in pixels.

    Polygons with fewer than three points, or half a point, are left out with a line in the log,
    as detectron2 and the YouTube-VIS loader do. None where the mask has another form.

    Raises:
        ValueError: no segmentation, one of an unknown form, or coordinates that are no numbers.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, (Mapping, np.ndarray)):
        return None
    name = describe(annotation, place)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, (str, bytes)):
        raise ValueError(
            f"{name}: segmentation: expected polygons, an RLE or a bitmap, "
            f"got {'none' if segmentation is None else type(segmentation).__name__}"
        )
    polygons = [_to_points(polygon, name) for polygon in segmentation]
    valid = [polygon for polygon in polygons if polygon is not None]
    if len(valid) < max(len(polygons), 1):
        log_first_n(
            logging.WARNING,
            f"Left out polygons with fewer than 3 points, first in {name}; "
            "`python -m mask2former.data.check` lists them all.",
            key="caller",
        )
    return valid


def _to_points(polygon: Any, name: str) -> np.ndarray | None:
    try:
        numbers = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.ndim == 0:
        raise ValueError(
            f"{name}: segmentation: expected a list of polygons [x0, y0, x1, y1, ...], "
            f"got {polygon!r} in the place of a polygon"
        )
    if not (np.abs(numbers) < _FARTHEST).all():  # false for NaN too
        raise ValueError(f"{name}: a polygon has a coordinate that is no number or beyond all size")
    return numbers.reshape(-1, 2) if numbers.size >= 6 and numbers.size % 2 == 0 else None


def decode_bitmap(annotation: Annotation, place: int, size: tuple[int, int]) -> np.ndarray:
    """Decodes the RLE or takes the bitmap of an annotation.

    Args:
        size: (H, W) that it must have, in pixels.

    Returns:
        (H, W) uint8 of 0 and 1.

    Raises:
        ValueError: of another size, or damaged.
    """
    segmentation, name = annotation["segmentation"], describe(annotation, place)
    is_rle = isinstance(segmentation, Mapping)
    found = tuple(segmentation.get("size", ()) if is_rle else segmentation.shape)
    if found != tuple(size):
        raise ValueError(f"{name}: expected a mask of (height, width) {tuple(size)}, got {found}")
    if not is_rle:
        return (segmentation != 0).view(np.uint8)
    counts = segmentation.get("counts")
    try:
        if isinstance(counts, (list, tuple, np.ndarray)):
            runs = np.asarray(counts, np.int64)
            if runs.ndim != 1 or (runs < 0).any() or runs.sum() != size[0] * size[1]:
                raise ValueError(f"runs that cover {int(runs.sum())} pixels")
            segmentation = mask_util.frPyObjects(
                {"size": list(size), "counts": runs.tolist()}, *size
            )
        elif isinstance(counts, (str, bytes)):
            _check_text(counts, size[0] * size[1])
        return mask_util.decode(dict(segmentation))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: damaged RLE ({error})") from error


def _check_text(counts: str | bytes, pixels: int) -> None:
    """Raises a ValueError where compressed counts do not cover an image of that many pixels: what
    they leave out, pycocotools would fill with whatever is in memory."""
    text = counts.encode("ascii", errors="replace") if isinstance(counts, str) else counts
    runs = decode_counts(text)
    if (runs < 0).any() or runs.sum() != pixels:
        raise ValueError(f"runs that cover {int(runs.sum())} of {pixels} pixels")


def rasterise(polygons: Sequence[np.ndarray], mask: np.ndarray) -> bool:
    """Sets the pixels of ``mask`` (H, W) bool, all False so far, that the polygons cover.

    The result is what pycocotools would draw on the whole mask; only the part that the polygons
    can touch is drawn.

    Args:
        polygons: arrays (P, 2) of x, y in pixels, which may lie outside; overlaps unite.

    Returns:
        Whether any part of a polygon lies inside, be it too small to set a pixel.
    """
    points = np.concatenate(polygons)
    limits = np.array(mask.shape[::-1])
    low = np.clip(np.floor(points.min(axis=0)) - 1, 0, limits).astype(np.int64)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, 0, limits).astype(np.int64)
    if (low >= high).any():
        return False
    window = mask[low[1] : high[1], low[0] : high[0]]
    polygons = [polygon - low for polygon in polygons]
    rles = mask_util.frPyObjects([polygon.reshape(-1) for polygon in polygons], *window.shape)
    rle = mask_util.merge(rles)
    if mask_util.area(rle):
        window[:] = mask_util.decode(rle).view(bool)
        return True
    return any(_area_within(polygon, window.shape) > 0 for polygon in polygons)


def _area_within(polygon: np.ndarray, size: tuple[int, ...]) -> float:
    """Area of the part of a polygon (P, 2) that lies in [0, W] x [0, H], by Sutherland-Hodgman."""
    for axis, limit in ((0, size[1]), (1, size[0])):
        for side, sign in ((0, 1), (limit, -1)):
            distance = sign * (polygon[:, axis] - side)  # not negative: inside
            following, ahead = np.roll(polygon, -1, axis=0), np.roll(distance, -1)
            crosses = (distance >= 0) != (ahead >= 0)
            share = np.where(crosses, distance, 0) / np.where(crosses, distance - ahead, 1)
            crossing = polygon + share[:, None] * (following - polygon)
            candidates = np.stack([polygon, crossing], axis=1)  # each corner, then its edge
            polygon = candidates[np.stack([distance >= 0, crosses], axis=1)]
    x, y = polygon.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)
