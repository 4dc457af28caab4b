"""COCO and Mapillary Vistas, whose panoptic annotations are in COCO's form, and COCO-Stuff 10k."""

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from scipy.io import loadmat

from ...annotations.readers.panoptic import read_panoptic
from ...errors import UserError
from ...formats.images import write_image
from ...formats.label_maps import look_up, read_panoptic_png
from ..categories import load_categories
from ..datasets.common import LONG_SPLITS, require
from . import common
from .annotations import check_segments, describe_segments, is_made, write_annotations

logger = logging.getLogger(__name__)

STUFF_SPLITS = ("train", "test")

_VOID = 255
_HINT = "datasets/README.md shows what has to be there."


def prepare_semantic(root: Path, split: str, **options: Any) -> None:
    """Make coco/panoptic_semseg_SPLIT2017/ from the panoptic annotations.

    Labels are the contiguous ids 0..132 of all classes, 255 where there is no segment.

    Raises:
        FileNotFoundError: the panoptic annotations are missing.
        UserError: a PNG has other segments than the json says, or an unknown category.
    """
    folder = root / "coco"
    annotations = _read_annotations(folder / "annotations" / f"panoptic_{split}2017.json")
    source = folder / f"panoptic_{split}2017"
    target = folder / f"panoptic_semseg_{split}2017"
    jobs = []
    for annotation in annotations:
        name = Path(annotation["file_name"]).name
        categories = {s["id"]: s["category_id"] for s in annotation["segments_info"]}
        jobs.append(((source / name, categories), target / name))
    common.convert_files(_draw_classes, jobs, label=f"COCO labels, {split}", **options)


def _read_annotations(path: Path) -> list[dict[str, Any]]:
    """Return the annotations of a panoptic json.

    Raises:
        FileNotFoundError, UserError: it is missing, or has entries that cannot be used.
    """
    found = read_panoptic(require(str(path), _HINT), names_in_json=False)
    found.findings.raise_refused()
    for line in found.findings.summary():
        logger.warning("%s", line)
    return found.content.get("annotations", [])


def _draw_classes(job: tuple[tuple[Path, Mapping[int, int]], Path]) -> None:
    """Job: ((panoptic PNG, category of each of its segments), label map to make)."""
    (source, categories), target = job
    classes = {c["id"]: index for index, c in enumerate(COCO_CATEGORIES)}
    unknown = set(categories.values()) - classes.keys()
    if unknown:
        raise UserError(f"{source}: unknown category ids {sorted(unknown)} in the json")
    ids = read_panoptic_png(source)
    check_segments(ids, categories, source)
    table = {segment: classes[category] for segment, category in categories.items()}
    write_image(target, look_up(ids, table, _VOID, np.uint8))


def prepare_stuff_10k(root: Path, split: str, **options: Any) -> None:
    """Make images_detectron2/ and annotations_detectron2/ in coco/coco_stuff_10k/.

    Labels are the contiguous ids 0..170, 255 where the Matlab files say unlabeled.

    Raises:
        FileNotFoundError: a photo, its Matlab file, or the list of the split is missing.
        UserError: a Matlab file has no label map S, or an unknown label; names the file.
    """
    folder = root / "coco" / "coco_stuff_10k"
    names_file = folder / "imageLists" / f"{split}.txt"
    if not names_file.exists():
        raise FileNotFoundError(f"{names_file} is missing. {_HINT}")
    names = _read_names(names_file)
    photos = [folder / "images" / f"{name}.jpg" for name in names]
    common.link_files(photos, folder / "images_detectron2" / split)
    labels = folder / "annotations_detectron2" / split
    jobs = [(folder / "annotations" / f"{name}.mat", labels / f"{name}.png") for name in names]
    common.convert_files(_convert_mat, jobs, label=f"COCO-Stuff 10k labels, {split}", **options)


def _read_names(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected names of photos in UTF-8: {error}") from error
    if "\0" in text:
        raise UserError(f"{path}: expected names of photos, got a file with zero bytes")
    return [Path(name).name for name in text.split()]


def _convert_mat(job: tuple[Path, Path]) -> None:
    source, target = job
    try:
        labels = loadmat(source, variable_names=["S"])["S"]
    except Exception as error:  # scipy's reader trips over damage in many ways
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        raise UserError(
            f"{source}: expected a Matlab file with a label map S: {error!r}"
        ) from error
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iuf":
        raise UserError(
            f"{source}: expected a label map S (H, W) of numbers, got {labels.shape} of "
            f"{labels.dtype}"
        )
    table = {c["id"]: index for index, c in enumerate(load_categories("coco_stuff_10k"))}
    unknown = set(np.unique(labels).tolist()) - table.keys() - {0}
    if unknown:
        raise UserError(f"{source}: unknown labels {sorted(unknown)}")
    write_image(target, look_up(labels, table, _VOID, np.uint8))


def prepare_mapillary_instances(
    root: Path, split: str, *, workers: int = 1, overwrite: bool = False
) -> None:
    """Make instances_SPLIT.json in mapillary_vistas/{training,validation}/.

    Its category ids and image ids are those of panoptic/panoptic_2018.json, and its masks those
    segments whose class is a thing.

    Raises:
        FileNotFoundError: the panoptic annotations are missing.
        UserError: a PNG has other segments than the json says.
    """
    folder = root / "mapillary_vistas" / LONG_SPLITS[split]
    target = folder / f"instances_{split}.json"
    if is_made(target, overwrite):
        return
    pngs = folder / "panoptic"
    annotations = _read_annotations(pngs / "panoptic_2018.json")
    describe = functools.partial(_list_instances, pngs)
    things = [c for c in load_categories("mapillary_vistas") if c["isthing"]]
    label = f"Mapillary Vistas instances, {split}"
    write_annotations(target, describe, annotations, things, label=label, workers=workers)


def _list_instances(folder: Path, annotation: Mapping[str, Any]) -> dict[str, Any]:
    path = folder / Path(annotation["file_name"]).name
    ids = read_panoptic_png(path)
    segments = {s["id"]: s for s in annotation["segments_info"]}
    check_segments(ids, segments, path)
    classes = {c["id"] for c in load_categories("mapillary_vistas") if c["isthing"]}
    things = [i for i, segment in segments.items() if segment["category_id"] in classes]
    image_id = annotation["image_id"]
    objects = [
        {
            "image_id": image_id,
            "category_id": segments[i]["category_id"],
            "iscrowd": segments[i].get("iscrowd", 0),
            **found,
        }
        for i, found in zip(things, describe_segments(ids, things))
    ]
    image = {"id": image_id, "file_name": f"{path.stem}.jpg"}
    image |= {"height": ids.shape[0], "width": ids.shape[1]}
    return {"image": image, "annotations": objects}
