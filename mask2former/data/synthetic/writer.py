"""Write the shapes dataset: images in COCO's three forms, or clips in that of YouTube-VIS."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ...formats.atomic import atomic_folder, remove_leftovers
from ...formats.images import write_image
from ...formats.json_files import read_json, write_json
from ...formats.label_maps import look_up, write_panoptic_png
from ...formats.rle import run_lengths
from ..categories import load_categories
from ..preparation.annotations import describe_segments, draw_segments
from ..preparation.common import map_parallel
from .motion import random_clip
from .scene import random_scene, render

VERSION = 1  # raise it whenever the same seed gives other pictures
PARAMETERS_FILE = "parameters.json"

# Of an image of 128 x 128; a thing that shows less in a frame is not annotated in it.
_MIN_PIXELS = 8

Record = dict[str, Any]


def write_shapes(
    output: Path,
    *,
    video: bool = False,
    seed: int = 0,
    train: int | None = None,
    val: int | None = None,
    size: int = 128,
    frames: int | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> bool:
    """Draw the dataset into ``output``/shapes or, of clips, ``output``/shapes_video, atomically.

    The tree of images, where SPLIT is train or val::

        images/SPLIT/*.jpg               pictures of size x size
        annotations/instances_SPLIT.json COCO instances, masks as compressed RLE of what is visible
        annotations/panoptic_SPLIT.json  COCO panoptic, with panoptic_SPLIT/*.png
        sem_seg_SPLIT/*.png              class of every pixel, 0..9, in the order of the categories

    and of clips::

        SPLIT/JPEGImages/00001/00000.jpg   frames of size x size
        SPLIT.json                         masks as compressed RLE of what is visible, None where
                                           an object is hidden or outside of the image

    Args:
        video: draw clips.
        seed: the same seed gives the same bytes, whatever the number of workers.
        train, val: numbers of images (2000 and 200 by default) or clips (1000 and 40).
        size: side of the images or frames in pixels.
        frames: of each clip, 24 by default.
        workers: processes.
        overwrite: replace a dataset that exists.

    Returns:
        False if the same dataset existed already and is kept.

    Raises:
        UserError: an argument is out of range.
        FileExistsError: there is another dataset, and ``overwrite`` is False.
    """
    if frames is not None and not video:
        raise UserError(f"frames are for clips only (video), got {frames}")
    options = {"size": size} | ({"frames": 24 if frames is None else frames} if video else {})
    defaults = (1000, 40) if video else (2000, 200)
    splits = zip(("train", "val"), (train, val), defaults)
    counts = {split: default if count is None else count for split, count, default in splits}
    _check_range("seed", seed, 0)
    _check_range("size", size, 32, 2048)
    for name, value in (counts | options).items():
        _check_range(name, value, 1)
    target = Path(output) / ("shapes_video" if video else "shapes")
    parameters = {"version": VERSION, "seed": seed, **options, **counts}
    if not overwrite and _is_made(target, parameters):
        remove_leftovers(target)
        return False
    draw, annotate = (_draw_clip, _annotate_clips) if video else (_draw_image, _annotate_images)
    with atomic_folder(target) as folder:
        for index, (split, count) in enumerate(counts.items()):
            task = functools.partial(_draw, draw, folder, split, (seed, index), options)
            numbers = range(1, count + 1)
            records = map_parallel(task, numbers, workers=workers, label=f"drawing {split}")
            annotate(folder, split, list(records))
        write_json(folder / PARAMETERS_FILE, parameters, indent=1)
    return True


def _check_range(name: str, value: int, minimum: int, maximum: float = float("inf")) -> None:
    if not minimum <= value <= maximum:
        limits = f"{minimum} or more" if maximum == float("inf") else f"{minimum} to {maximum}"
        raise UserError(f"{name} has to be {limits}, not {value}")


def _is_made(target: Path, parameters: Record) -> bool:
    """Return whether a folder was made with the same parameters.

    Raises:
        FileExistsError: it holds something else.
    """
    try:
        found = read_json(target / PARAMETERS_FILE)
    except (FileNotFoundError, NotADirectoryError, UserError):
        found = None
    if found != parameters and target.exists():
        what = f"with other parameters ({found})" if found else "by something else"
        raise FileExistsError(
            f"{target} was made {what} and is left as it is; "
            f"asked for: {parameters}. Choose another folder, or overwrite it (--overwrite)."
        )
    return found == parameters


def _draw(
    draw: Callable[..., Record],
    folder: Path,
    split: str,
    seeds: tuple[int, int],
    options: Mapping[str, int],
    number: int,
) -> Record:
    # A generator of its own for each, so that the workers can share them out in any way.
    return draw(folder, split, number, np.random.default_rng([*seeds, number]), **options)


def _draw_image(
    folder: Path, split: str, number: int, rng: np.random.Generator, *, size: int
) -> Record:
    """Draw one image, write its files, and return what the json files say about it."""
    scene = random_scene(rng, size)
    pixels, owner = render(scene, rng)
    categories = {c["name"]: c for c in load_categories("shapes")}
    stuff, names = scene.backdrop.labels, enumerate(scene.backdrop.names)
    masks = [(categories[name], (owner == 0) & (stuff == i)) for i, name in names]
    masks += [(categories[t.kind], owner == i) for i, t in enumerate(scene.things, start=1)]
    ids, segments = draw_segments(owner.shape, masks)
    classes = {c["id"]: index for index, c in enumerate(categories.values())}
    semantic = look_up(ids, {s["id"]: classes[s["category_id"]] for s in segments}, 0, np.uint8)
    name = f"{number:06d}"
    write_image(folder / "images" / split / f"{name}.jpg", pixels)
    write_panoptic_png(folder / f"panoptic_{split}" / f"{name}.png", ids)
    write_image(folder / f"sem_seg_{split}" / f"{name}.png", semantic)
    image = {"id": number, "file_name": f"{name}.jpg", "height": size, "width": size}
    return {"image": image, "segments": segments}


def _annotate_images(folder: Path, split: str, records: list[Record]) -> None:
    """Write the instance and the panoptic json of a split from what was drawn."""
    categories = load_categories("shapes")
    things = [c for c in categories if c["isthing"]]
    thing_ids = {c["id"] for c in things}
    instances, panoptic = [], []
    for record in records:
        image_id, png = record["image"]["id"], f"{Path(record['image']['file_name']).stem}.png"
        for segment in record["segments"]:
            if segment["category_id"] in thing_ids:
                instances.append({**segment, "image_id": image_id, "id": len(instances) + 1})
        rows = [{k: v for k, v in s.items() if k != "segmentation"} for s in record["segments"]]
        panoptic.append({"image_id": image_id, "file_name": png, "segments_info": rows})
    head = {
        "info": {"description": f"shapes, {split}", "version": str(VERSION)},
        "images": [record["image"] for record in records],
    }
    kinds = {"instances": (instances, things), "panoptic": (panoptic, categories)}
    for kind, (annotations, table) in kinds.items():
        content = {**head, "annotations": annotations, "categories": list(table)}
        write_json(folder / "annotations" / f"{kind}_{split}.json", content)


def _draw_clip(
    folder: Path, split: str, number: int, rng: np.random.Generator, *, size: int, frames: int
) -> Record:
    """Draw one clip, write its frames, and return what the json says about it."""
    clip = random_clip(rng, size, frames)
    names = [f"{number:05d}/{frame:05d}.jpg" for frame in range(frames)]
    min_pixels = max(_MIN_PIXELS * (size / 128) ** 2, 1)
    seen = []  # of each frame, the annotations of all things, empty where one is not visible
    for frame, name in enumerate(names):
        pixels, owner = render(clip.scene(frame), rng)
        write_image(folder / split / "JPEGImages" / name, pixels)
        found = describe_segments(owner, range(1, len(clip.things) + 1))
        seen.append([row if row["area"] >= min_pixels else {} for row in found])
    categories = {c["name"]: c["id"] for c in load_categories("shapes")}
    side = {"height": size, "width": size}
    tracks = [
        {
            "video_id": number,
            "category_id": categories[thing.kind],
            "iscrowd": 0,
            **side,
            "bboxes": [row.get("bbox") for row in rows],
            "segmentations": [_run_lengths(row.get("segmentation")) for row in rows],
            "areas": [row.get("area") for row in rows],
        }
        for thing, rows in zip(clip.things, zip(*seen))
    ]
    return {
        "video": {"id": number, **side, "length": frames, "file_names": names},
        "tracks": tracks,
    }


def _run_lengths(rle: Record | None) -> Record | None:
    """Return an RLE with its counts as a list, as in YouTube-VIS, which all its tools read."""
    return rle and {**rle, "counts": run_lengths(rle, *rle["size"]).tolist()}


def _annotate_clips(folder: Path, split: str, records: list[Record]) -> None:
    """Write the json of a split from what was drawn."""
    tracks = [track for record in records for track in record["tracks"]]
    content = {
        "info": {"description": f"shapes, clips, {split}", "version": str(VERSION)},
        "videos": [record["video"] for record in records],
        "annotations": [{"id": i, **track} for i, track in enumerate(tracks, start=1)],
        "categories": [c for c in load_categories("shapes") if c["isthing"]],
    }
    write_json(folder / f"{split}.json", content)
