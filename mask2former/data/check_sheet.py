"""Draws a contact sheet of a data set: photos with their annotations, as training gets them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.data import transforms as T
from PIL import Image

from mask2former.files import atomic_path

from .check_records import Kind, Meaning
from .datasets.common import palette
from .images import read_image
from .mappers import DatasetMapper

__all__ = ["write_sheet"]

CELL = (240, 320)  # H, W of a picture in pixels
CAPTION = 18  # height of the line below it
COLUMNS = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_sheet(
    path: str | os.PathLike[str],
    records: Sequence[Mapping[str, Any]],
    kind: Kind,
    classes: Sequence[str],
    meaning: Meaning,
) -> None:
    """Writes a PNG with a cell for each record: the photo below coloured masks and class names.

    Args:
        records: sound ones, at least one.
    """
    cells = [_cell(record, kind, classes, meaning) for record in records]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    with atomic_path(path) as part:
        Image.fromarray(np.vstack(rows)).save(part, format="PNG")


def _cell(
    record: Mapping[str, Any], kind: Kind, classes: Sequence[str], meaning: Meaning
) -> np.ndarray:
    if kind == "video":
        record, kind = _middle_frame(record), "instance"
    height, width = read_image(record["file_name"]).shape[:2]
    scale = min(CELL[0] / height, CELL[1] / width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    mapper = DatasetMapper(
        target=kind,
        augmentations=[T.Resize(size)],
        image_format="RGB",
        ignore_label=meaning.ignore_label if meaning.sem_seg_labels is None else 65535,
        sem_seg_labels=meaning.sem_seg_labels,
        pad_to=CELL,
    )
    mapped = mapper(record)
    image = mapped["image"].permute(1, 2, 0).numpy().copy()
    targets = mapped["instances"]
    masks, labels = targets.gt_masks.numpy(), targets.gt_classes.tolist()
    by_class = kind != "instance"  # objects of one class should stay apart
    colours = palette(max(len(classes), len(masks), 1))
    for i, (mask, label) in enumerate(zip(masks, labels)):
        _paint(image, mask, colours[label if by_class else i])
    for mask, label in zip(masks, labels):
        _write_at_centre(image, mask, classes[label])
    caption = np.full((CAPTION, CELL[1], 3), 255, np.uint8)
    name = os.path.basename(record["file_name"])
    _write(caption, f"{name[-28:]} ({len(masks)})", (3, 13), (0, 0, 0))
    return np.vstack([image, caption])


def _middle_frame(record: Mapping[str, Any]) -> dict[str, Any]:
    frame = len(record["file_names"]) // 2
    annotations = [
        {"id": a["id"], "category_id": a["category_id"], "segmentation": a["segmentations"][frame]}
        for a in record["annotations"]
        if a["segmentations"][frame]
    ]
    return {"file_name": record["file_names"][frame], "annotations": annotations}


def _paint(image: np.ndarray, mask: np.ndarray, colour: Sequence[int]) -> None:
    """Tints the mask and draws its outline."""
    image[mask] = image[mask] // 2 + np.array(colour, np.uint8) // 2
    edges = mask & ~cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
    image[edges] = colour


def _write_at_centre(image: np.ndarray, mask: np.ndarray, text: str) -> None:
    rows, columns = np.nonzero(mask)
    if rows.size > 100:  # there is room
        x = int(min(np.median(columns), image.shape[1] - 7 * len(text)))
        y = int(np.clip(np.median(rows), 12, image.shape[0] - 4))
        _write(image, text, (max(x, 0) + 1, y + 1), (0, 0, 0))
        _write(image, text, (max(x, 0), y), (255, 255, 255))


def _write(image: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, ...]) -> None:
    cv2.putText(image, text, at, _FONT, 0.4, colour, 1, cv2.LINE_AA)
