"""Annotation files in COCO's panoptic and instance forms, and the segments in them."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...errors import UserError
from ...formats.json_files import write_json
from ...formats.rle import area, bounding_box, encode_segments
from .common import map_parallel

Array = np.ndarray
Category = Mapping[str, Any]
Segment = dict[str, Any]
Item = TypeVar("Item")


def draw_segments(
    shape: tuple[int, ...], masks: Iterable[tuple[Category, Array]]
) -> tuple[Array, list[Segment]]:
    """Draw a panoptic map, in which later masks hide earlier ones.

    Args:
        shape: H, W in pixels.
        masks: (H, W) bool, each with its category, of which id and color are used.

    Returns:
        The ids of the segments, (H, W) int32, 0 for void, and what COCO says about those of them
        that show: id, category_id, iscrowd, segmentation, bbox and area.
    """
    ids, categories = np.zeros(shape, np.int32), {}
    for category, mask in masks:
        if mask.any():
            segment_id = free_id(category["color"], categories)
            categories[segment_id] = category["id"]
            ids[mask] = segment_id
    rows = zip(categories.items(), describe_segments(ids, list(categories)))
    segments = [{"id": i, "category_id": c, "iscrowd": 0, **found} for (i, c), found in rows]
    return ids, [segment for segment in segments if segment["area"]]


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


def describe_segments(segment_map: Array, ids: Sequence[int]) -> list[Segment]:
    """Return COCO's ``segmentation`` (compressed RLE), ``bbox`` (XYWH, pixels) and ``area``.

    Args:
        segment_map: (H, W) integers.
        ids: N values; a result for each, with area 0 where no pixel has it.
    """
    rles = encode_segments(segment_map, ids)
    return [
        {"segmentation": rle, "bbox": [int(v) for v in bounding_box(rle)], "area": area(rle)}
        for rle in rles
    ]


def check_segments(segment_map: Array, segments: Mapping[int, Any], path: Path) -> None:
    """Compare the segment ids in a PNG (H, W) with those that the json has for it.

    Raises:
        UserError: names the ids that only one of them has.
    """
    drawn = set(np.unique(segment_map).tolist()) - {0}
    if drawn != segments.keys():
        raise UserError(
            f"{path} and its json disagree: segments {sorted(drawn - segments.keys())} are only in "
            f"the PNG, {sorted(segments.keys() - drawn)} only in the json"
        )


def is_made(target: Path, overwrite: bool) -> bool:
    """Return whether an annotation file is there and is to be kept.

    What a run has left that was killed when the file was just complete is deleted then.
    """
    if overwrite or not target.exists():
        return False
    _journal_of(target).unlink(missing_ok=True)
    return True


def write_annotations(
    target: Path,
    describe: Callable[[Item], dict[str, Any]],
    items: Sequence[Item],
    categories: Sequence[Category],
    *,
    label: str,
    numbered: bool = True,
    workers: int = 1,
) -> None:
    """Write an annotation file in one of COCO's forms, atomically.

    Args:
        describe: returns the "image" of an item and its "annotations".
        items: identified by their ``repr``.
        label: what the progress bar says.
        numbered: give the annotations ids from 1 on.
        workers: processes.

    Raises:
        UserError: there are no images, annotations or categories, or ids occur twice.
    """
    journal = _journal_of(target)
    records = _collect_records(describe, items, journal, workers=workers, label=label)
    annotations = [a for record in records for a in record["annotations"]]
    if numbered:
        annotations = [{"id": i, **a} for i, a in enumerate(annotations, start=1)]
    images = [record["image"] for record in records]
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    for key, rows in content.items():
        if not rows:
            raise UserError(f"{target} would have no {key}: is the dataset complete?")
        ids = [row["id"] for row in rows if "id" in row]
        if len(set(ids)) < len(ids):
            raise UserError(f"{target} would have {key} with the same id")
    write_json(target, content)
    journal.unlink()


def _journal_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.journal")


def _collect_records(
    describe: Callable[[Item], Any],
    items: Sequence[Item],
    journal: Path,
    *,
    workers: int,
    label: str,
) -> list[Any]:
    """Call ``describe`` on every item, and after an interruption go on where it stopped.

    What is done is kept in ``journal``, a line of json an item.
    """
    done: dict[str, Any] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        with suppress(ValueError):  # an interruption cut it short
            key, record = json.loads(line)
            done[key] = record
    keys = [hashlib.sha256(repr(item).encode()).hexdigest() for item in items]
    left = {key: item for key, item in zip(keys, items) if key not in done}
    journal.parent.mkdir(parents=True, exist_ok=True)
    with open(journal, "a") as file:
        file.write("\n")  # ends a line that was cut short
        found = map_parallel(describe, list(left.values()), workers=workers, label=label)
        for record, key in zip(found, left):
            file.write(json.dumps([key, record]) + "\n")
            file.flush()
            done[key] = record
    return [done[key] for key in keys]
