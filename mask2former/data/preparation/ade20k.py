"""ADE20K of the scene parsing challenge: label maps, panoptic and instance annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...formats.images import read_labels, read_segment_ids
from ..categories import load_categories
from . import common
from .segments import encode_mask, free_id, ids_to_rgb, measure_segments

SPLITS = ("train", "val")

_FOLDERS = {"train": "training", "val": "validation"}
_VOID = 255

Category = dict[str, Any]


def _folder(root: Path) -> Path:
    return Path(root) / "ADEChallengeData2016"


def prepare_semantic(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Makes annotations_detectron2/ from annotations/: labels 0..149, 255 where there was 0.

    Raises:
        FileNotFoundError: the annotations are missing.
        ValueError: a label is above 150; names the file.
    """
    source = _folder(root) / "annotations" / _FOLDERS[split]
    target = _folder(root) / "annotations_detectron2" / _FOLDERS[split]
    jobs = [(path, target / path.name) for path in common.list_files(source, "*.png")]
    label = f"ADE20K labels, {split}"
    common.convert_files(_shift, jobs, workers=workers, overwrite=overwrite, label=label)


def _shift(job: tuple[Path, Path]) -> None:
    source, target = job
    common.write_image(target, _read_classes(source))


def _read_classes(path: Path) -> np.ndarray:
    """Classes 0..149 and 255 for void, (H, W) uint8, from labels that start at 1."""
    labels = read_labels(str(path))
    if labels.max() > 150:
        raise ValueError(f"{path}: expected labels 0 to 150, found {labels.max()}")
    return (labels - 1).astype(np.uint8)  # 0 turns into 255


def prepare_panoptic(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Makes ade20k_panoptic_SPLIT/ and .json from annotations/ and annotations_instance/.

    Stuff comes from the label maps and things from the instance maps, which lie over it; pixels of
    thing classes without an instance are void.

    Raises:
        FileNotFoundError, ValueError: the annotations are missing, or not as expected.
    """
    folder = _folder(root)
    target = folder / f"ade20k_panoptic_{split}.json"
    if target.exists() and not overwrite:
        return
    pngs = folder / f"ade20k_panoptic_{split}"
    pngs.mkdir(parents=True, exist_ok=True)
    files = common.list_files(folder / "annotations" / _FOLDERS[split], "*.png")
    jobs = [(path, pngs / path.name) for path in files]
    label = f"ADE20K panoptic, {split}"
    records = common.collect_records(_merge, jobs, target, workers=workers, label=label)
    content = {
        "images": [record.pop("image") for record in records],
        "annotations": records,
        "categories": [_without_instance_name(c) for c in load_categories("ade20k")],
    }
    common.write_annotations(target, content)


def _without_instance_name(category: Category) -> Category:
    return {key: value for key, value in category.items() if key != "instance_name"}


def _merge(job: tuple[Path, Path]) -> dict[str, Any]:
    """Writes the panoptic PNG of an image and returns its annotation."""
    source, target = job
    classes = _read_classes(source)
    ids, segments = np.zeros(classes.shape, np.int32), {}
    categories = load_categories("ade20k")

    def add(category: Category, mask: np.ndarray) -> None:
        segment_id = free_id(category["color"], segments)
        segments[segment_id] = category["id"]
        ids[mask] = segment_id

    for index in np.unique(classes):
        if index != _VOID and not categories[index]["isthing"]:
            add(categories[index], classes == index)
    codes = _read_codes(things := _beside(source))
    if codes.shape != classes.shape:
        raise ValueError(f"{things}: {codes.shape} pixels (H, W), but {source}: {classes.shape}")
    for category, mask in _split(codes, things):
        add(category, mask)
    common.write_image(target, ids_to_rgb(ids))
    measures = measure_segments(ids)  # stuff that things hide altogether is not in it
    return {
        "image": _image(source.stem, classes.shape),
        "image_id": source.stem,
        "file_name": target.name,
        "segments_info": [
            {"id": i, "category_id": segments[i], **measures[i], "iscrowd": 0}
            for i in segments
            if i in measures
        ],
    }


def _beside(source: Path) -> Path:
    """The instance map for a label map."""
    return source.parents[2] / "annotations_instance" / source.parent.name / source.name


def _image(stem: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"id": stem, "file_name": f"{stem}.jpg", "height": shape[0], "width": shape[1]}


def prepare_instances(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Makes ade20k_instance_SPLIT.json, in COCO's form, from annotations_instance/.

    Raises:
        FileNotFoundError, ValueError: the annotations are missing, or not as expected.
    """
    folder = _folder(root)
    target = folder / f"ade20k_instance_{split}.json"
    if target.exists() and not overwrite:
        return
    source = folder / "annotations_instance" / _FOLDERS[split]
    files = common.list_files(source, "*.png")
    label = f"ADE20K instances, {split}"
    records = common.collect_records(_list_instances, files, target, workers=workers, label=label)
    annotations = [a for record in records for a in record["annotations"]]
    content = {
        "images": [record["image"] for record in records],
        "annotations": [{"id": i, **a} for i, a in enumerate(annotations, start=1)],
        "categories": [
            {"id": c["id"], "name": c["instance_name"]}
            for c in load_categories("ade20k")
            if c["isthing"]
        ],
    }
    common.write_annotations(target, content)


def _list_instances(path: Path) -> dict[str, Any]:
    codes = _read_codes(path)
    annotations = [
        {"image_id": path.stem, "category_id": category["id"], "iscrowd": 0, **encode_mask(mask)}
        for category, mask in _split(codes, path)
    ]
    return {"image": _image(path.stem, codes.shape), "annotations": annotations}


def _read_codes(path: Path) -> np.ndarray:
    """Class, from 1, + 256 x instance in each pixel (H, W); class 0 where there is no thing."""
    return read_segment_ids(str(path)) & 0xFFFF  # red and green


def _split(codes: np.ndarray, path: Path) -> list[tuple[Category, np.ndarray]]:
    """The things of an image: (category, mask)."""
    things = [c for c in load_categories("ade20k") if c["isthing"]]
    found = []
    for code in np.unique(codes[codes & 255 != 0]).tolist():
        number = code & 255
        if number > len(things):
            raise ValueError(f"{path}: expected classes 1 to {len(things)}, found {number}")
        found.append((things[number - 1], codes == code))
    return found
