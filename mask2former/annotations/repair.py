"""Write what the readers take back into a file that other tools can use."""

import os
from collections.abc import Mapping
from typing import Any

from ..formats.label_maps import count_values
from ..formats.rle import area, bounding_box
from ..formats.segmentations import compress
from .parts.fields import id_key
from .parts.masks import box_contradicts
from .readers.panoptic import read_segment_map

_SMALL = 20  # pixels; areas that differ by less are those of other rules of rounding


def area_contradicts(given: float, pixels: int) -> bool:
    """Return whether an area in a file is far from the number of pixels of the mask."""
    return abs(given - pixels) > max(_SMALL, 0.5 * max(pixels, 1))


def repaired_instances(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return COCO instance json in which boxes and areas fit the masks.

    Args:
        content: of ``read_instances``. Boxes and areas are replaced where they contradict the mask
            or are missing; objects get ids from 1 on where two have the same, or one has none.
    """
    sizes = {
        id_key(image["id"]): (image["height"], image["width"])
        for image in content["images"]
        if "height" in image
    }
    annotations = [
        _repaired(entry, sizes.get(id_key(entry["image_id"])))
        for entry in content.get("annotations", ())
    ]
    if len({id_key(entry.get("id")) for entry in annotations} - {None}) < len(annotations):
        annotations = [entry | {"id": i} for i, entry in enumerate(annotations, start=1)]
    truth = {"annotations": annotations} if "annotations" in content else {}
    return {**content, **truth}


def _repaired(entry: Mapping[str, Any], size: tuple[int, int] | None) -> dict[str, Any]:
    result = dict(entry)
    if size is None:
        return result
    mask = compress(entry["segmentation"], *size)
    pixels = area(mask)
    if "area" not in entry or area_contradicts(entry["area"], pixels):
        result["area"] = float(pixels)
    x, y, width, height = bounding_box(mask)
    if pixels and box_contradicts(entry["bbox"], (x, y, x + width, y + height)):
        result["bbox"] = [x, y, width, height]
    return result


def repaired_panoptic(content: Mapping[str, Any], panoptic_root: str) -> dict[str, Any]:
    """Return COCO panoptic json with the areas of the maps.

    Args:
        content: of ``read_panoptic``.
        panoptic_root: folder of the maps.

    Raises:
        FileNotFoundError, UserError: a map cannot be used.
    """
    annotations = []
    for entry in content.get("annotations", ()):
        ids = read_segment_map(
            os.path.join(panoptic_root, entry["file_name"]), entry["segments_info"]
        )
        areas = count_values(ids)
        segments = [s | {"area": areas.get(s["id"], 0)} for s in entry["segments_info"]]
        annotations.append(entry | {"segments_info": segments})
    return {**content, "annotations": annotations}
