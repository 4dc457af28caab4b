"""ADE20K of 2021 with all its classes: 16-bit label maps of the 847 most frequent ones."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...formats.images import write_image
from ...formats.label_maps import look_up, read_panoptic_png
from ..categories import load_categories
from ..datasets.common import LONG_SPLITS
from . import common

_VOID = 65535


def prepare(root: Path, split: str, **options: Any) -> None:
    """Make images_detectron2/ and annotations_detectron2/ from images/ADE/.

    The photos lie in a folder a scene there, each with a PNG of segments and a json of objects.
    They are linked where the file system can do it, else copied.

    Raises:
        FileNotFoundError: the photos are missing, or one lacks its PNG or json.
        ValueError: a json cannot be read; names the file.
    """
    folder = Path(root) / "ADE20K_2021_17_01"
    source = folder / "images" / "ADE" / LONG_SPLITS[split]
    photos = common.list_files(source, "**/*.jpg")
    labels = folder / "annotations_detectron2" / LONG_SPLITS[split]
    common.link_files(photos, folder / "images_detectron2" / LONG_SPLITS[split])
    jobs = [(photo, labels / f"{photo.stem}.tif") for photo in photos]
    common.convert_files(_convert, jobs, label=f"ADE20K full labels, {split}", **options)


def _convert(job: tuple[Path, Path]) -> None:
    photo, target = job
    # Red / 10 counts steps of 256 classes, green is the rest; blue tells instances apart.
    codes = read_panoptic_png(photo.with_name(f"{photo.stem}_seg.png"))
    classes = (codes & 255) // 10 * 256 + (codes >> 8 & 255)
    table = _class_table(photo.with_suffix(".json"))
    write_image(target, look_up(classes, table, _VOID, np.uint16))


def _class_table(path: Path) -> dict[int, int]:
    """Return the contiguous class of each number in an image that stands for one of the 847.

    The json beside an image says which number stands for which name.
    """
    known = {c["name"]: index for index, c in enumerate(load_categories("ade20k_full"))}
    return {number: known[name] for number, name in _objects(path) if name in known}


def _objects(path: Path) -> Iterable[tuple[int, str]]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # so are some of the files that are published
    try:
        objects = json.loads(text, strict=False)["annotation"]["object"]
        return [(int(o["name_ndx"]), o["name"]) for o in objects]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected annotation.object with name and name_ndx: {error!r}"
        ) from error
