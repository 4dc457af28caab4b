"""Semantic segmentation: IoU and accuracies of a model while it runs, and PQ and IoU of files."""

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...errors import UserError
from ...formats.json_files import (
    JsonStream,
    read_json,
    require_id,
    require_keys,
    require_list,
    require_text,
)
from ...formats.rle import decode, encode_segments
from ...formats.segmentations import compress, error_prefix
from ..common import check_labels, check_scores, gather, required
from ..details import WorstImages, class_colours, segment_entries, write_details
from ..instance.coco_ap import DILATION_RATIO
from ..panoptic.quality import VOID, PanopticQuality
from ..results import results_table
from .counts import SemanticCounts
from .truth import SemanticTruth

logger = logging.getLogger(__name__)


class SemSegEvaluator(DatasetEvaluator):
    """mIoU, frequency-weighted IoU and accuracies under detectron2's names, in percent.

    Memory is that of a table of class pairs; predictions go to a file as they come. Gathers over
    processes, which must all call ``evaluate``.

    Args:
        dataset_name: a dataset with label maps or panoptic segments (see ``SemanticTruth``).
        distributed: False scores what this process saw alone.
        output_dir: where ``sem_seg_predictions.json`` goes, in COCO's stuff format; None writes
            nothing. All processes must reach it.
        boundary_iou: report boundary IoU too (Cheng et al., CVPR 2021), summed over images.
        dilation_ratio: width of the boundary as a fraction of the image's diagonal.
    """

    takes_semantic_labels = True

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        boundary_iou: bool = False,
        dilation_ratio: float = DILATION_RATIO,
    ):
        self._name = dataset_name
        self._distributed = distributed
        self._output_dir = Path(output_dir) if output_dir else None
        self._dilation_ratio = dilation_ratio if boundary_iou else None
        self._truth = SemanticTruth(dataset_name)
        self._class_names = self._truth.class_names
        self._stream: JsonStream | None = None

    def reset(self) -> None:
        self._counts = SemanticCounts(len(self._class_names))
        self._worst = WorstImages()
        if self._stream is not None:  # of a run that was left
            self._stream.discard()
            self._stream = None
        if self._output_dir:
            self._stream = JsonStream(self._output_dir / "sem_seg_predictions.json")

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        """Count a batch of B images.

        Args:
            inputs: B dicts with ``file_name``.
            outputs: B dicts with ``sem_seg`` in the size of the ground truth: scores (K, H, W), or
                classes (H, W), -1 where a score was no finite number.

        Raises:
            UserError: no semantic output, another number of classes than the dataset's, another
                size than the ground truth's, or a label in the ground truth beyond the classes.
        """
        for image, output in zip(inputs, outputs, strict=True):
            labels = self._labels(image, output)
            gt = self._truth.read(image["file_name"])
            with error_prefix(image["file_name"]):
                score = self._counts.add(gt, labels, self._dilation_ratio)
            self._worst.offer(score, image["file_name"], partial(self._both, labels, gt))
            if self._stream is not None:
                for entry in self._entries(image["file_name"], labels):
                    self._stream.write(entry)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Sum over the processes; the results are on the main one, the others get {}."""
        if self._stream is not None:
            self._stream.close(merge=self._distributed)
        parts = gather((self._counts, self._worst), self._distributed)
        if not parts:
            return {}
        total, worst = SemanticCounts(len(self._class_names)), WorstImages()
        for counts, images in parts:
            total += counts
            worst += images
        results = {"sem_seg": total.summary(self._class_names, self._dilation_ratio is not None)}
        logger.info("Semantic segmentation on %s:\n%s", self._name, results_table(results))
        confusion = total.confusion[:-1].tolist()
        facts = {"classes": self._class_names, "confusion": confusion}
        colours = class_colours(MetadataCatalog.get(self._name))
        write_details(
            self._output_dir, "sem_seg", **facts, worst=worst.worst_first(), colours=colours
        )
        return results

    def _both(self, *maps: np.ndarray) -> tuple[list[dict[str, Any]], ...]:
        """Return the entries of maps of labels (H, W), -1 for none, that `WorstImages` keeps."""
        names = {i: (name, i, False) for i, name in enumerate(self._class_names)}
        return tuple(segment_entries(*as_segments(labels), names) for labels in maps)

    def _labels(self, image: Mapping[str, Any], output: Mapping[str, Any]) -> np.ndarray:
        result: torch.Tensor = required(output, "sem_seg", "SEMANTIC_ON")
        count = len(self._class_names)
        if result.ndim == 2:
            check_labels(result, count, image["file_name"])
            return result.cpu().numpy()
        if result.ndim != 3 or result.shape[0] != count:
            raise UserError(
                f"{image['file_name']}: expected scores ({count}, H, W), since "
                f"{self._name} has {count} classes, got {tuple(result.shape)}; "
                "set MODEL.SEM_SEG_HEAD.NUM_CLASSES"
            )
        labels = result.argmax(dim=0)
        check_scores(result, labels, image["file_name"])
        return labels.cpu().numpy()

    def _entries(self, file_name: str, labels: np.ndarray) -> list[dict[str, Any]]:
        present = np.unique(labels).tolist()
        ids = self._truth.dataset_ids
        return [
            {"file_name": file_name, "category_id": ids[label], "segmentation": mask}
            for label, mask in zip(present, encode_segments(labels, present), strict=True)
        ]


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
        UserError: an image has no entries or is not in the dataset, sizes differ, or a category
            does not exist; says which.
    """
    truth = SemanticTruth(dataset_name)
    entries = _by_file(read_json(json_file), str(json_file))
    missing, extra = truth.file_names - entries.keys(), entries.keys() - truth.file_names
    if missing or extra:
        raise UserError(
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
        with error_prefix(file_name):
            labels = _paint(entries[file_name], gt.shape, contiguous)
            quality.add_image(*as_segments(gt), *as_segments(labels))
        counts.add(gt, labels)
    return quality.summary(), counts.summary(truth.class_names)


def _by_file(results: Any, where: str) -> dict[str, list[dict[str, Any]]]:
    require_list(results, where)
    entries = defaultdict(list)
    for i, entry in enumerate(results):
        with error_prefix(f"{where}: entry {i}"):
            require_keys(entry, ("file_name", "category_id", "segmentation"))
            require_text(entry["file_name"], "file_name")
            require_id(entry["category_id"], "category_id")
        entries[entry["file_name"]].append(entry)
    return entries


def _paint(
    entries: list[dict[str, Any]], shape: tuple[int, ...], contiguous: dict[int, int]
) -> np.ndarray:
    """Paint one map (H, W) of contiguous classes, -1 where no entry lies."""
    labels = np.full(shape, -1, dtype=np.int64)
    for entry in entries:
        if entry["category_id"] not in contiguous:
            raise UserError(f"category {entry['category_id']} is not one of the dataset")
        mask = decode(compress(entry["segmentation"], *shape))
        labels[mask.view(bool)] = contiguous[entry["category_id"]]
    return labels


def as_segments(labels: np.ndarray) -> tuple[np.ndarray, list[dict[str, int]]]:
    """Return classes from -1 = void as segment ids from 0 = void."""
    ids = labels + 1
    present = np.unique(ids[ids != VOID]).tolist()
    return ids, [{"id": i, "category_id": i - 1} for i in present]
