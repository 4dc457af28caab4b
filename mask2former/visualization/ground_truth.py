"""A data set's annotations in the form of a prediction, so that both are drawn alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances

from ..data.images import read_labels, read_segment_ids
from ..data.segmentations import decode_bitmap, rasterise, valid_polygons


def ground_truth(record: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a record's annotations into what a model would return for a perfect prediction.

    Args:
        record: in detectron2's format; see `mask2former.data.DatasetMapper`.

    Returns:
        those of `panoptic_seg`, `instances` (with scores of 1) and `sem_seg` (labels (H, W)) that
        the record has; see `MaskFormer.forward`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or an annotation is; named.
    """
    truth: dict[str, Any] = {}
    if "pan_seg_file_name" in record:
        ids = read_segment_ids(record["pan_seg_file_name"])
        truth["panoptic_seg"] = _panoptic(ids, record["segments_info"])
    if "annotations" in record:
        truth["instances"] = _instances(record)
    if "sem_seg_file_name" in record:
        labels = read_labels(record["sem_seg_file_name"])
        truth["sem_seg"] = torch.from_numpy(labels.astype(np.int64))
    return truth


def _panoptic(ids: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> tuple[Any, list[dict]]:
    """Segments numbered from 1; crowd becomes void."""
    numbered = np.zeros(ids.shape, np.int32)
    infos = []
    for segment in segments:
        if segment.get("iscrowd", 0):
            continue
        number = len(infos) + 1
        numbered[ids == segment["id"]] = number
        infos.append(
            {
                "id": number,
                "isthing": bool(segment.get("isthing", True)),
                "category_id": segment["category_id"],
            }
        )
    return torch.from_numpy(numbered), infos


def _instances(record: Mapping[str, Any]) -> Instances:
    size = (record["height"], record["width"])
    masks, classes = [], []
    for place, annotation in enumerate(record["annotations"]):
        if annotation.get("iscrowd", 0):
            continue
        if isinstance(annotation["segmentation"], Sequence):
            mask = np.zeros(size, bool)
            polygons = valid_polygons(annotation, place)
            if polygons:
                rasterise(polygons, mask)
        else:
            mask = decode_bitmap(annotation, place, size) > 0
        masks.append(torch.from_numpy(mask))
        classes.append(annotation["category_id"])
    instances = Instances(size)
    instances.pred_masks = torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    instances.scores = torch.ones(len(classes))
    return instances
