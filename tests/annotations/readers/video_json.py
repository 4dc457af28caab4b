"""Sound YouTube-VIS json, and functions that spoil it in one way each."""

import copy
from typing import Any

import numpy as np

from mask2former.formats.rle import encode_masks
from tests.annotations import three
from tests.annotations.three import COUNT, HEIGHT, WIDTH

FRAMES = 2
NAN = float("nan")


def mask(i: int) -> np.ndarray:
    found = np.zeros((HEIGHT, WIDTH), bool)
    found[three.square(i)] = True
    return found


def polygon(i: int) -> list[list[float]]:
    rows, columns = three.square(i)
    left, right, top, bottom = columns.start, columns.stop, rows.start, rows.stop
    return [[left, top, right, top, right, bottom, left, bottom]]


def rle(i: int = 0, *, extra: int = 0, listed: bool = False) -> dict[str, Any]:
    encoded = encode_masks(mask(i)[None])[0]
    if not listed:
        return encoded
    flat = mask(i).reshape(-1, order="F")
    counts = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    counts[-1] += extra
    return {"size": [HEIGHT, WIDTH], "counts": counts}


def sound() -> dict[str, Any]:
    """Videos of two frames, with an object each."""
    frames = [f"{t}.png" for t in range(FRAMES)]
    return {
        "videos": [
            {
                "id": i,
                "file_names": [f"v{i}/{name}" for name in frames],
                "height": HEIGHT,
                "width": WIDTH,
                "length": FRAMES,
            }
            for i in range(COUNT)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {
                "id": i + 1,
                "video_id": i,
                "category_id": (3, 7)[i % 2],
                "iscrowd": 0,
                "segmentations": [polygon(i), rle(i)],
                "bboxes": [[5 + 4 * i, 6, 20, 20]] * FRAMES,
                "areas": [400, 400],
            }
            for i in range(COUNT)
        ],
    }


def video(i: int | None, **values: Any):
    return _change("videos", i, values)


def track(i: int | None, **values: Any):
    return _change("annotations", i, values)


def _change(where: str, i: int | None, values: dict[str, Any]):
    def spoil(content):
        for j, entry in enumerate(content[where]):
            if i in (None, j):
                entry.update(values)
                for key in [key for key, value in values.items() if value is ...]:
                    del entry[key]

    return spoil


def add(where: str, **values: Any):
    return lambda content: content[where].append(copy.deepcopy(content[where][0]) | values)


def each(where: str, change):
    def spoil(content):
        for entry in content[where]:
            change(entry)

    return spoil


def whole(**content: Any):
    return lambda old: old.clear() or old.update(content)


def masks(*values: Any):
    return track(1, segmentations=list(values))


def in_unit_square(entry):
    sides = np.resize([WIDTH, HEIGHT], 8)
    entry["segmentations"] = [[(np.array(entry["segmentations"][0][0]) / sides).tolist()]] * 2


def as_lists(entry):
    entry["segmentations"] = [rle(entry["video_id"], listed=True)] * FRAMES


def backslashes(entry):
    entry["file_names"] = [name.replace("/", "\\") for name in entry["file_names"]]
