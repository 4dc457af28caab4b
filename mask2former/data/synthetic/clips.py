"""Writes the shapes video data set: clips, and their annotations in the form of YouTube-VIS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..categories import load_categories
from ..preparation.common import write_json
from ..preparation.segments import encode_mask
from .motion import random_clip
from .scene import render
from .writer import check_range, write_picture, write_splits

VERSION = 1  # raise it whenever the same seed gives other pictures
_LEAST_PIXELS = 8  # of an image of 128 x 128; with less to see, an object is not annotated


def write_shapes_video(
    output: Path,
    *,
    seed: int = 0,
    train: int = 1000,
    val: int = 40,
    size: int = 128,
    frames: int = 24,
    workers: int = 2,
    overwrite: bool = False,
) -> bool:
    """Draws clips into ``output``/shapes_video, whole or not at all.

    The tree, where SPLIT is train or val::

        SPLIT/JPEGImages/00001/00000.jpg   frames of size x size
        SPLIT.json                         masks as compressed RLE of what is visible, None where
                                           an object is hidden or out of the picture

    Args:
        seed: the same seed gives the same bytes, whatever the number of workers.
        train, val: numbers of clips.
        size: side of the frames in pixels.
        frames: of each clip.
        workers: processes.
        overwrite: replace a data set that is there.

    Returns:
        False if the same data set was there already and is kept.

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: there is another data set, and ``overwrite`` is False.
    """
    check_range("size", size, 32, 2048)
    check_range("frames", frames, 1)
    parameters = {"version": VERSION, "seed": seed, "size": size, "frames": frames}
    return write_splits(
        Path(output) / "shapes_video",
        {"train": train, "val": val},
        parameters,
        _draw_clip,
        _write_annotations,
        workers=workers,
        overwrite=overwrite,
    )


def _draw_clip(
    folder: Path, split: str, video_id: int, rng: np.random.Generator, *, size: int, frames: int
) -> dict[str, Any]:
    """Draws one clip, writes its frames, and returns what the json says about it."""
    clip = random_clip(rng, size, frames)
    names = [f"{video_id:05d}/{frame:05d}.jpg" for frame in range(frames)]
    categories = {c["name"]: c["id"] for c in load_categories("shapes")}
    objects = [_empty_object(video_id, categories[thing.kind], size) for thing in clip.things]
    least = max(_LEAST_PIXELS * (size / 128) ** 2, 1)
    for frame, name in enumerate(names):
        pixels, owner = render(clip.scene(frame), rng)
        write_picture(folder / split / "JPEGImages" / name, pixels)
        for number, record in enumerate(objects, start=1):
            mask = owner == number
            _append(record, encode_mask(mask) if mask.sum() >= least else {})
    video = {"id": video_id, "height": size, "width": size, "length": frames, "file_names": names}
    return {"video": video, "objects": objects}


def _empty_object(video_id: int, category_id: int, size: int) -> dict[str, Any]:
    head = {"video_id": video_id, "category_id": category_id, "iscrowd": 0}
    return {**head, "height": size, "width": size, "bboxes": [], "segmentations": [], "areas": []}


def _append(record: dict[str, Any], frame: dict[str, Any]) -> None:
    """Adds a frame, in which the object is not to be seen where ``frame`` is empty."""
    record["bboxes"].append(frame.get("bbox"))
    record["segmentations"].append(frame.get("segmentation"))
    record["areas"].append(frame.get("area"))


def _write_annotations(folder: Path, split: str, records: list[dict[str, Any]]) -> None:
    objects = [o for record in records for o in record["objects"]]
    content = {
        "info": {"description": f"shapes, clips, {split}", "version": str(VERSION)},
        "videos": [record["video"] for record in records],
        "annotations": [{"id": i, **o} for i, o in enumerate(objects, start=1)],
        "categories": [c for c in load_categories("shapes") if c["isthing"]],
    }
    write_json(folder / f"{split}.json", content)
