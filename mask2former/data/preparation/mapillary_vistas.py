"""Mapillary Vistas 1.2: instances in COCO's form, from the panoptic annotations."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...formats.label_maps import read_panoptic_png
from ..categories import load_categories
from ..datasets.common import LONG_SPLITS, read_json
from . import common
from .annotations import check_segments, encode_mask


def prepare_instances(root: Path, split: str, *, workers: int = 1, overwrite: bool = False) -> None:
    """Make instances_SPLIT.json in mapillary_vistas/{training,validation}/.

    Its category ids and image ids are those of panoptic/panoptic_2018.json, and its masks those
    segments whose class is a thing.

    Raises:
        FileNotFoundError: the panoptic annotations are missing.
        ValueError: a PNG has other segments than the json says.
    """
    folder = Path(root) / "mapillary_vistas" / LONG_SPLITS[split]
    target = folder / f"instances_{split}.json"
    if target.exists() and not overwrite:
        return
    pngs = folder / "panoptic"
    hint = "datasets/README.md shows what has to be there."
    annotations = read_json(str(pngs / "panoptic_2018.json"), hint)["annotations"]
    describe = functools.partial(_list_instances, pngs)
    things = [c for c in load_categories("mapillary_vistas") if c["isthing"]]
    label = f"Mapillary Vistas instances, {split}"
    common.write_annotations(target, describe, annotations, things, label=label, workers=workers)


def _list_instances(folder: Path, annotation: Mapping[str, Any]) -> dict[str, Any]:
    path = folder / Path(annotation["file_name"]).name
    ids = read_panoptic_png(path)
    segments = {s["id"]: s for s in annotation["segments_info"]}
    check_segments(ids, segments, path)
    things = {c["id"] for c in load_categories("mapillary_vistas") if c["isthing"]}
    image_id = annotation["image_id"]
    size = {"height": ids.shape[0], "width": ids.shape[1]}
    objects = [
        {
            "image_id": image_id,
            "category_id": segment["category_id"],
            "iscrowd": segment.get("iscrowd", 0),
            **encode_mask(ids == segment_id),
        }
        for segment_id, segment in segments.items()
        if segment["category_id"] in things
    ]
    return {
        "image": {"id": image_id, "file_name": f"{path.stem}.jpg", **size},
        "annotations": objects,
    }
