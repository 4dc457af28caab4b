"""ADE20K: label maps, panoptic and instance annotations of the scene parsing challenge, and the
label maps of 2021 with the 847 most frequent of all classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ...formats.images import write_image
from ...formats.label_maps import look_up, read_labels, read_panoptic_png, write_panoptic_png
from ..categories import load_categories
from ..datasets.common import LONG_SPLITS
from . import common
from .annotations import Category, describe_segments, draw_segments, is_made, write_annotations

_FOLDER = "ADEChallengeData2016"
_VOID, _VOID_FULL = 255, 65535


def prepare_semantic(root: Path, split: str, **options: Any) -> None:
    """Make annotations_detectron2/ from annotations/: labels 0..149, 255 where there was 0.

    Raises:
        FileNotFoundError: the annotations are missing.
        UserError: a label is above 150; names the file.
    """
    source = root / _FOLDER / "annotations" / LONG_SPLITS[split]
    target = root / _FOLDER / "annotations_detectron2" / LONG_SPLITS[split]
    jobs = [(path, target / path.name) for path in common.list_files(source, "*.png")]
    common.convert_files(_shift, jobs, label=f"ADE20K labels, {split}", **options)


def _shift(job: tuple[Path, Path]) -> None:
    source, target = job
    write_image(target, _read_classes(source))


def _read_classes(path: Path) -> np.ndarray:
    """Classes 0..149 and 255 for void, (H, W) uint8, from labels that start at 1."""
    labels = read_labels(path)
    if labels.max() > 150:
        raise UserError(f"{path}: expected labels 0 to 150, found {labels.max()}")
    return (labels - 1).astype(np.uint8)  # 0 turns into 255


def prepare_panoptic(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Make ade20k_panoptic_SPLIT/ and .json from annotations/ and annotations_instance/.

    Stuff comes from the label maps and things from the instance maps, which lie over it; pixels of
    thing classes without an instance are void.

    Raises:
        FileNotFoundError, UserError: the annotations are missing, or not as expected.
    """
    folder = root / _FOLDER
    target = folder / f"ade20k_panoptic_{split}.json"
    if is_made(target, overwrite):
        return
    pngs = folder / f"ade20k_panoptic_{split}"
    files = common.list_files(folder / "annotations" / LONG_SPLITS[split], "*.png")
    jobs = [(path, pngs / path.name) for path in files]
    categories = [
        {key: value for key, value in category.items() if key != "instance_name"}
        for category in load_categories("ade20k")
    ]
    label = f"ADE20K panoptic, {split}"
    write_annotations(
        target, _merge, jobs, categories, label=label, numbered=False, workers=workers
    )


def _merge(job: tuple[Path, Path]) -> dict[str, Any]:
    """Write the panoptic PNG of an image and return its annotation."""
    source, target = job
    things = source.parents[2] / "annotations_instance" / source.parent.name / source.name
    classes, codes = _read_classes(source), _read_codes(things)
    if codes.shape != classes.shape:
        raise UserError(f"{things}: {codes.shape} pixels (H, W), but {source}: {classes.shape}")
    found = [(load_categories("ade20k")[i], i) for i in np.unique(classes) if i != _VOID]
    masks = [(category, classes == i) for category, i in found if not category["isthing"]]
    masks += [(category, codes == code) for code, category in _find_things(codes, things).items()]
    ids, segments = draw_segments(classes.shape, masks)
    write_panoptic_png(target, ids)
    for segment in segments:
        del segment["segmentation"]
    annotation = {"image_id": source.stem, "file_name": target.name, "segments_info": segments}
    return {"image": _image(source.stem, classes.shape), "annotations": [annotation]}


def _image(stem: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"id": stem, "file_name": f"{stem}.jpg", "height": shape[0], "width": shape[1]}


def prepare_instances(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Make ade20k_instance_SPLIT.json, in COCO's form, from annotations_instance/.

    Raises:
        FileNotFoundError, UserError: the annotations are missing, or not as expected.
    """
    folder = root / _FOLDER
    target = folder / f"ade20k_instance_{split}.json"
    if is_made(target, overwrite):
        return
    files = common.list_files(folder / "annotations_instance" / LONG_SPLITS[split], "*.png")
    things = [c for c in load_categories("ade20k") if c["isthing"]]
    categories = [{"id": c["id"], "name": c["instance_name"]} for c in things]
    label = f"ADE20K instances, {split}"
    write_annotations(target, _list_instances, files, categories, label=label, workers=workers)


def _list_instances(path: Path) -> dict[str, Any]:
    codes = _read_codes(path)
    things = _find_things(codes, path)
    rows = zip(things.values(), describe_segments(codes, list(things)))
    annotations = [
        {"image_id": path.stem, "category_id": category["id"], "iscrowd": 0, **found}
        for category, found in rows
    ]
    return {"image": _image(path.stem, codes.shape), "annotations": annotations}


def _read_codes(path: Path) -> np.ndarray:
    """Return class + 256 x instance of each pixel (H, W); classes from 1, 0 for no thing."""
    return read_panoptic_png(path) & 0xFFFF  # red and green


def _find_things(codes: np.ndarray, path: Path) -> dict[int, Category]:
    """Return the category of each code that stands for a thing."""
    things = [c for c in load_categories("ade20k") if c["isthing"]]
    numbers = {code: code & 255 for code in np.unique(codes).tolist() if code & 255}
    if unknown := [number for number in numbers.values() if number > len(things)]:
        raise UserError(f"{path}: expected classes 1 to {len(things)}, found {unknown[0]}")
    return {code: things[number - 1] for code, number in numbers.items()}


def prepare_full(root: Path, split: str, **options: Any) -> None:
    """Make images_detectron2/ and annotations_detectron2/ from images/ADE/.

    The photos lie in a folder a scene there, each with a PNG of segments and a json of objects.
    They are linked where the file system can do it, else copied.

    Raises:
        FileNotFoundError: the photos are missing, or one lacks its PNG or json.
        UserError: a json cannot be read; names the file.
    """
    folder = root / "ADE20K_2021_17_01"
    source = folder / "images" / "ADE" / LONG_SPLITS[split]
    photos = common.list_files(source, "**/*.jpg")
    labels = folder / "annotations_detectron2" / LONG_SPLITS[split]
    common.link_files(photos, folder / "images_detectron2" / LONG_SPLITS[split])
    jobs = [(photo, labels / f"{photo.stem}.tif") for photo in photos]
    common.convert_files(_convert_full, jobs, label=f"ADE20K full labels, {split}", **options)


def _convert_full(job: tuple[Path, Path]) -> None:
    photo, target = job
    # Red / 10 counts steps of 256 classes, green is the rest; blue tells instances apart.
    codes = read_panoptic_png(photo.with_name(f"{photo.stem}_seg.png"))
    classes = (codes & 255) // 10 * 256 + (codes >> 8 & 255)
    table = _class_table(photo.with_suffix(".json"))
    write_image(target, look_up(classes, table, _VOID_FULL, np.uint16))


def _class_table(path: Path) -> dict[int, int]:
    """Return the contiguous class of each number in an image that stands for one of the 847.

    The json beside an image says which number stands for which name.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # so are some of the files that are published
    known = {c["name"]: index for index, c in enumerate(load_categories("ade20k_full"))}
    try:
        objects = json.loads(text, strict=False)["annotation"]["object"]
        return {int(o["name_ndx"]): known[o["name"]] for o in objects if o["name"] in known}
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(
            f"{path}: expected annotation.object with name and name_ndx: {error!r}"
        ) from error
