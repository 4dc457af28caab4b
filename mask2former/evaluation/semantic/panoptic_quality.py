"""Panoptic quality of semantic segmentation: every class of an image counts as one segment."""

import os
from collections import defaultdict
from typing import Any

import numpy as np

from ...formats.json_files import read_json
from ...formats.rle import decode
from ...formats.segmentations import compress
from ..panoptic.quality import VOID, PanopticQuality
from .evaluator import SemanticCounts
from .truth import SemanticTruth


def semantic_pq(
    dataset_name: str, json_file: str | os.PathLike[str]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Score a file of semantic predictions by PQ and by IoU.

    Args:
        dataset_name: a dataset with semantic ground truth, as ``SemSegEvaluator`` takes.
        json_file: the ``sem_seg_predictions.json`` that it wrote: entries ``file_name``,
            ``category_id`` (of the dataset) and ``segmentation`` (RLE).

    Returns:
        what ``pq_compute`` returns, with all classes as stuff and contiguous category ids; and the
        scores of ``SemSegEvaluator``, where pixels that no entry covers count as wrong.

    Raises:
        FileNotFoundError: the json or a label map is missing.
        ValueError: an image has no entries or is not in the dataset, sizes differ, or a category
            does not exist; says which.
    """
    truth = SemanticTruth(dataset_name)
    entries = _by_file(read_json(json_file))
    missing, extra = truth.file_names - entries.keys(), entries.keys() - truth.file_names
    if missing or extra:
        raise ValueError(
            f"{json_file}: expected predictions for the {len(truth.file_names)} images of "
            f"{dataset_name}; missing: {sorted(missing)[:5]}, not in the dataset: "
            f"{sorted(extra)[:5]}"
        )
    num_classes = len(truth.class_names)
    contiguous = {truth.dataset_ids[k]: k for k in range(num_classes)}
    quality = PanopticQuality([{"id": k, "isthing": 0} for k in range(num_classes)])
    counts = SemanticCounts(num_classes)
    for file_name in sorted(truth.file_names):
        gt = truth.read(file_name)
        try:
            labels = _paint(entries[file_name], gt.shape, contiguous)
            quality.add_image(*_as_segments(gt), *_as_segments(labels))
        except ValueError as error:
            raise ValueError(f"{file_name}: {error}") from error
        counts.add(gt, labels)
    return quality.summary(), counts.summary(truth.class_names)


def _by_file(entries: Any) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        groups[entry["file_name"]].append(entry)
    return groups


def _paint(
    entries: list[dict[str, Any]], shape: tuple[int, ...], contiguous: dict[int, int]
) -> np.ndarray:
    """Paint one map (H, W) of contiguous classes, -1 where no entry lies."""
    labels = np.full(shape, -1, dtype=np.int64)
    for entry in entries:
        if entry["category_id"] not in contiguous:
            raise ValueError(f"category {entry['category_id']} is not one of the dataset")
        mask = decode(compress(entry["segmentation"], *shape))
        labels[mask.view(bool)] = contiguous[entry["category_id"]]
    return labels


def _as_segments(labels: np.ndarray) -> tuple[np.ndarray, list[dict[str, int]]]:
    """Return classes from -1 = void as segment ids from 0 = void."""
    ids = labels + 1
    present = np.unique(ids[ids != VOID]).tolist()
    return ids, [{"id": i, "category_id": i - 1} for i in present]
