"""Clips of moving shapes, and their annotations in the form of YouTube-VIS."""

from pathlib import Path
from typing import Any

import numpy as np

from ...formats.images import write_image
from ...formats.json_files import write_json
from ..categories import load_categories
from ..preparation.annotations import encode_mask
from .motion import random_clip
from .scene import render

_MIN_PIXELS = 8  # of an image of 128 x 128; with fewer visible, an object is not annotated


def draw(
    folder: Path, split: str, video_id: int, rng: np.random.Generator, *, size: int, frames: int
) -> dict[str, Any]:
    """Draw one clip, write its frames, and return what the json says about it."""
    clip = random_clip(rng, size, frames)
    names = [f"{video_id:05d}/{frame:05d}.jpg" for frame in range(frames)]
    categories = {c["name"]: c["id"] for c in load_categories("shapes")}
    objects = [_empty_object(video_id, categories[thing.kind], size) for thing in clip.things]
    min_pixels = max(_MIN_PIXELS * (size / 128) ** 2, 1)
    for frame, name in enumerate(names):
        pixels, owner = render(clip.scene(frame), rng)
        write_image(folder / split / "JPEGImages" / name, pixels)
        for number, record in enumerate(objects, start=1):
            mask = owner == number
            _append(record, encode_mask(mask) if mask.sum() >= min_pixels else {})
    video = {"id": video_id, "height": size, "width": size, "length": frames, "file_names": names}
    return {"video": video, "objects": objects}


def _empty_object(video_id: int, category_id: int, size: int) -> dict[str, Any]:
    head = {"video_id": video_id, "category_id": category_id, "iscrowd": 0}
    return {**head, "height": size, "width": size, "bboxes": [], "segmentations": [], "areas": []}


def _append(record: dict[str, Any], frame: dict[str, Any]) -> None:
    """Add a frame, in which the object is not visible where ``frame`` is empty."""
    record["bboxes"].append(frame.get("bbox"))
    record["segmentations"].append(frame.get("segmentation"))
    record["areas"].append(frame.get("area"))


def write_annotations(
    folder: Path, split: str, records: list[dict[str, Any]], version: int
) -> None:
    """Write the json of a split from the results of ``draw``."""
    objects = [o for record in records for o in record["objects"]]
    content = {
        "info": {"description": f"shapes, clips, {split}", "version": str(version)},
        "videos": [record["video"] for record in records],
        "annotations": [{"id": i, **o} for i, o in enumerate(objects, start=1)],
        "categories": [c for c in load_categories("shapes") if c["isthing"]],
    }
    write_json(folder / f"{split}.json", content)
