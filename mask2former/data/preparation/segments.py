"""Segments of COCO's panoptic and instance formats: ids as colours, masks as RLE."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_util
from scipy.ndimage import find_objects

Array = np.ndarray


def free_id(color: Sequence[int], taken: Collection[int]) -> int:
    """Return a segment id that, drawn as RGB, looks like the class.

    Args:
        color: of the class, RGB in 0..255.
        taken: ids that other segments of the image have.
    """
    step = 0
    while True:
        # Each further segment of a class is a shade away; shades turn back at 0 and 255.
        red, green, blue = (
            255 - abs((c + step * s) % 510 - 255) for c, s in zip(color, (-23, 14, 31))
        )
        segment_id = red + 256 * green + 65536 * blue
        if segment_id and segment_id not in taken:
            return segment_id
        step += 1


def ids_to_rgb(ids: Array) -> Array:
    """Segment ids (H, W) as COCO stores them: (H, W, 3) uint8, id = R + 256 G + 65536 B."""
    return np.stack([ids & 255, (ids >> 8) & 255, ids >> 16], axis=-1).astype(np.uint8)


def encode_mask(mask: Array) -> dict[str, Any]:
    """Return COCO's ``segmentation`` (compressed RLE), ``bbox`` (XYWH) and ``area`` of a mask.

    Args:
        mask: (H, W) bool with at least one pixel.
    """
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    box = [int(v) for v in mask_util.toBbox(rle)]
    segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}
    return {"segmentation": segmentation, "bbox": box, "area": int(mask.sum())}


def measure_segments(ids: Array) -> dict[int, dict[str, Any]]:
    """Return the area and bbox (XYWH, pixels) of every id but 0 in a map (H, W)."""
    present, indices = np.unique(ids, return_inverse=True)
    indices = indices.reshape(ids.shape)
    areas = np.bincount(indices.ravel()).tolist()
    boxes = [
        [x.start, y.start, x.stop - x.start, y.stop - y.start] for y, x in find_objects(indices + 1)
    ]
    rows = zip(present.tolist(), areas, boxes)
    return {i: {"area": area, "bbox": box} for i, area, box in rows if i != 0}


def look_up(labels: Array, table: Mapping[int, int], default: int, dtype: type) -> Array:
    """Replace every value in ``labels`` (H, W) by its entry in ``table``, or by ``default``."""
    present, indices = np.unique(labels, return_inverse=True)
    values = np.array([table.get(int(value), default) for value in present], dtype)
    return values[indices].reshape(labels.shape)


def check_segments(ids: np.ndarray, segments: Mapping[int, Any], path: Path) -> None:
    """Compare the segment ids in a PNG (H, W) with those that the json has for it.

    Raises:
        ValueError: names the ids that only one of them has.
    """
    drawn = {int(i) for i in np.unique(ids)} - {0}
    if drawn != segments.keys():
        raise ValueError(
            f"{path} and its json disagree: segments {sorted(drawn - segments.keys())} are only in "
            f"the PNG, {sorted(segments.keys() - drawn)} only in the json"
        )
