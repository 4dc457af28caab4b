"""ADE20K of the scene parsing challenge: label maps, panoptic and instance annotations."""

from pathlib import Path
from typing import Any

import numpy as np

from ...formats.images import write_image
from ...formats.label_maps import read_labels, read_panoptic_png, write_panoptic_png
from ..categories import load_categories
from ..datasets.common import LONG_SPLITS
from . import common
from .annotations import encode_mask, free_id, measure_segments

_VOID = 255

Category = dict[str, Any]


def _folder(root: Path) -> Path:
    return Path(root) / "ADEChallengeData2016"


def prepare_semantic(root: Path, split: str, **options: Any) -> None:
    """Make annotations_detectron2/ from annotations/: labels 0..149, 255 where there was 0.

    Raises:
        FileNotFoundError: the annotations are missing.
        ValueError: a label is above 150; names the file.
    """
    source = _folder(root) / "annotations" / LONG_SPLITS[split]
    target = _folder(root) / "annotations_detectron2" / LONG_SPLITS[split]
    jobs = [(path, target / path.name) for path in common.list_files(source, "*.png")]
    common.convert_files(_shift, jobs, label=f"ADE20K labels, {split}", **options)


def _shift(job: tuple[Path, Path]) -> None:
    source, target = job
    write_image(target, _read_classes(source))


def _read_classes(path: Path) -> np.ndarray:
    """Classes 0..149 and 255 for void, (H, W) uint8, from labels that start at 1."""
    labels = read_labels(path)
    if labels.max() > 150:
        raise ValueError(f"{path}: expected labels 0 to 150, found {labels.max()}")
    return (labels - 1).astype(np.uint8)  # 0 turns into 255


def prepare_panoptic(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Make ade20k_panoptic_SPLIT/ and .json from annotations/ and annotations_instance/.

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
    files = common.list_files(folder / "annotations" / LONG_SPLITS[split], "*.png")
    jobs = [(path, pngs / path.name) for path in files]
    categories = [
        {key: value for key, value in category.items() if key != "instance_name"}
        for category in load_categories("ade20k")
    ]
    label = f"ADE20K panoptic, {split}"
    common.write_annotations(
        target, _merge, jobs, categories, label=label, numbered=False, workers=workers
    )


def _merge(job: tuple[Path, Path]) -> dict[str, Any]:
    """Write the panoptic PNG of an image and return its annotation."""
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
    write_panoptic_png(target, ids)
    measures = measure_segments(ids)  # stuff that things hide altogether is not in it
    segments_info = [
        {"id": i, "category_id": segments[i], **measures[i], "iscrowd": 0}
        for i in segments
        if i in measures
    ]
    annotation = {"image_id": source.stem, "file_name": target.name, "segments_info": segments_info}
    return {"image": _image(source.stem, classes.shape), "annotations": [annotation]}


def _beside(source: Path) -> Path:
    """Return the instance map for a label map."""
    return source.parents[2] / "annotations_instance" / source.parent.name / source.name


def _image(stem: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"id": stem, "file_name": f"{stem}.jpg", "height": shape[0], "width": shape[1]}


def prepare_instances(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Make ade20k_instance_SPLIT.json, in COCO's form, from annotations_instance/.

    Raises:
        FileNotFoundError, ValueError: the annotations are missing, or not as expected.
    """
    folder = _folder(root)
    target = folder / f"ade20k_instance_{split}.json"
    if target.exists() and not overwrite:
        return
    files = common.list_files(folder / "annotations_instance" / LONG_SPLITS[split], "*.png")
    things = [c for c in load_categories("ade20k") if c["isthing"]]
    categories = [{"id": c["id"], "name": c["instance_name"]} for c in things]
    label = f"ADE20K instances, {split}"
    common.write_annotations(
        target, _list_instances, files, categories, label=label, workers=workers
    )


def _list_instances(path: Path) -> dict[str, Any]:
    codes = _read_codes(path)
    annotations = [
        {"image_id": path.stem, "category_id": category["id"], "iscrowd": 0, **encode_mask(mask)}
        for category, mask in _split(codes, path)
    ]
    return {"image": _image(path.stem, codes.shape), "annotations": annotations}


def _read_codes(path: Path) -> np.ndarray:
    """Return class + 256 x instance of each pixel (H, W); classes from 1, 0 for no thing."""
    return read_panoptic_png(path) & 0xFFFF  # red and green


def _split(codes: np.ndarray, path: Path) -> list[tuple[Category, np.ndarray]]:
    """Return the things of an image: (category, mask)."""
    things = [c for c in load_categories("ade20k") if c["isthing"]]
    found = []
    for code in np.unique(codes[codes & 255 != 0]).tolist():
        number = code & 255
        if number > len(things):
            raise ValueError(f"{path}: expected classes 1 to {len(things)}, found {number}")
        found.append((things[number - 1], codes == code))
    return found
