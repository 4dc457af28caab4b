"""Sound COCO panoptic json, and functions that spoil it in one way each."""

import copy
from typing import Any

import numpy as np

from tests.annotations import three
from tests.annotations.three import COUNT, HEIGHT, WIDTH


def segment_map(i: int) -> np.ndarray:
    """Stuff 300 everywhere, void on the left, thing 70000 on a square."""
    ids = np.full((HEIGHT, WIDTH), 300)
    ids[:, :2] = 0
    ids[three.square(i)] = 70000
    return ids


def sound() -> dict[str, Any]:
    annotations = [
        {
            "image_id": i,
            "file_name": f"{i}.png",
            "segments_info": [
                {"id": 300, "category_id": 7, "iscrowd": 0, "area": HEIGHT * (WIDTH - 2) - 400},
                {"id": 70000, "category_id": 3, "iscrowd": 0, "area": 400},
            ],
        }
        for i in range(COUNT)
    ]
    images = [
        {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(COUNT)
    ]
    categories = [
        {"id": 3, "name": "cat", "isthing": 1, "color": [200, 0, 0]},
        {"id": 7, "name": "sky", "isthing": 0, "color": [0, 0, 200]},
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def image(i: int, **values: Any):
    return lambda content: content["annotations"][i].update(values)


def segment(i: int, j: int, **values: Any):
    return lambda content: content["annotations"][i]["segments_info"][j].update(values)


def every(**values: Any):
    """Change all segments; ... takes a key away."""

    def spoil(content):
        for annotation in content["annotations"]:
            for entry in annotation["segments_info"]:
                entry.update(values)
                for key in [key for key, value in values.items() if value is ...]:
                    del entry[key]

    return spoil


def add(where: str, *path: Any, **values: Any):
    """Add a changed copy of the first entry to a list."""

    def spoil(content):
        entries = content[where]
        for key in path:
            entries = entries[key]
        entries.append(copy.deepcopy(entries[0]) | values)

    return spoil


def names(key: str, change):
    def spoil(content):
        for entry in content[key]:
            entry["file_name"] = change(entry["file_name"])

    return spoil


def as_text(content):
    for entry in content["annotations"]:
        entry["image_id"] = str(entry["image_id"])
        for s in entry["segments_info"]:
            s["id"], s["category_id"] = str(s["id"]), str(s["category_id"])


def whole(**content: Any):
    return lambda old: old.clear() or old.update(content)


def windows_names(content):
    for key in ("annotations", "images"):
        names(key, lambda n: f"sub\\{n}")(content)
