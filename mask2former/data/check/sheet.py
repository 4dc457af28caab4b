"""Draw a contact sheet of a dataset: photos with their annotations, as training gets them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import transforms as T

from ...formats.images import read_image
from ...pictures import ContactSheet, Region, paint
from ..datasets.common import palette
from ..mappers import DatasetMapper
from .records import Kind, Meaning

CELL = (480, 640)  # largest size of a picture, H, W in pixels


def write_sheet(
    folder: str | os.PathLike[str],
    name: str,
    records: Sequence[Mapping[str, Any]],
    kind: Kind,
    classes: Sequence[str],
    meaning: Meaning,
) -> Path:
    """Write a page with a row for each record: the photo, and it under masks and class names.

    Args:
        folder: of the page and its pictures.
        name: of the dataset.
        records: sound ones.

    Returns:
        the page.
    """
    if kind == "video":
        records, kind = [_middle_frame(record) for record in records], "instance"
    sheet = ContactSheet(folder, name, ("photo", "annotations"))
    for record in records:
        image, regions = _drawing(record, kind, classes, meaning)
        pictures = {"photo": image, "annotations": paint(image, regions)}
        sheet.add(Path(record["file_name"]).stem, pictures)
    return sheet.write(f"{len(records)} records, as training gets them")


def _drawing(
    record: Mapping[str, Any], kind: Kind, classes: Sequence[str], meaning: Meaning
) -> tuple[np.ndarray, Iterator[Region]]:
    """Return the photo of a record, (H, W, 3) in RGB and no larger than CELL, and its regions."""
    height, width = read_image(record["file_name"]).shape[:2]
    scale = min(CELL[0] / height, CELL[1] / width, 1)
    mapper = DatasetMapper(
        target=kind,
        augmentations=[T.Resize((max(1, round(height * scale)), max(1, round(width * scale))))],
        image_format="RGB",
        ignore_label=meaning.ignore_label if meaning.sem_seg_labels is None else 65535,
        sem_seg_labels=meaning.sem_seg_labels,
    )
    mapped = mapper(record)
    targets = mapped["instances"]
    masks, labels = targets.gt_masks.numpy(), targets.gt_classes.tolist()
    # Objects of one class should stay apart.
    colours = palette(max(len(masks) if kind == "instance" else len(classes), 1))
    regions = (
        Region(mask, np.array(colours[i if kind == "instance" else label]) / 255, classes[label])
        for i, (mask, label) in enumerate(zip(masks, labels))
    )
    return mapped["image"].permute(1, 2, 0).numpy(), regions


def _middle_frame(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the middle frame of a video as a record of an image."""
    frame = len(record["file_names"]) // 2
    annotations = [
        {"id": a["id"], "category_id": a["category_id"], "segmentation": a["segmentations"][frame]}
        for a in record["annotations"]
        if a["segmentations"][frame]
    ]
    return {"file_name": record["file_names"][frame], "annotations": annotations}
