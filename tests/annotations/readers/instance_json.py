"""Sound COCO instance json, and what tests change in it."""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util

HEIGHT, WIDTH = 20, 30
SQUARE = [2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]
PAIRS = [[2.0, 2.0], [9.0, 2.0], [9.0, 9.0], [2.0, 9.0]]
NAN = float("nan")


def sound() -> dict[str, Any]:
    """Two images with an object each, of two classes."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "categories": [{"id": 5, "name": "box"}, {"id": 9, "name": "ball"}],
        "annotations": [
            {
                "id": 10 * i,
                "image_id": i,
                "category_id": (5, 9)[i - 1],
                "iscrowd": 0,
                "bbox": [2.0, 2.0, 7.0, 7.0],
                "area": 49.0,
                "segmentation": [list(SQUARE)],
            }
            for i in (1, 2)
        ],
    }


def rle(compressed: bool = True) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[2:9, 2:9] = 1
    if compressed:
        encoded = mask_util.encode(mask)
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat = mask.reshape(-1, order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges, flat.size]).tolist()}


def changed(where: str, index: int | None = 0, **values: Any) -> dict[str, Any]:
    """Sound json with other values in one entry of a list, or in all; ... takes a key away."""
    content = sound()
    entries = content[where] if index is None else [content[where][index]]
    for entry in entries:
        entry.update(values)
        for key in [key for key, value in values.items() if value is ...]:
            del entry[key]
    return content


def added(where: str, **values: Any) -> dict[str, Any]:
    content = sound()
    content[where].append(content[where][0] | values)
    return content
