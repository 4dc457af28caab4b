"""Segments of COCO's panoptic and instance formats."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from ...formats.rle import area, bounding_box, encode_masks

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


def encode_mask(mask: Array) -> dict[str, Any]:
    """Return COCO's ``segmentation`` (compressed RLE), ``bbox`` (XYWH) and ``area`` of a mask.

    Args:
        mask: (H, W) bool with at least one pixel.
    """
    (rle,) = encode_masks(mask[None])
    box = [int(side) for side in bounding_box(rle)]
    return {"segmentation": rle, "bbox": box, "area": area(rle)}


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
