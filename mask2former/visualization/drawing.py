"""Draw panoptic, semantic and instance results, and ground truth, over images and frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from torch import Tensor

from ..annotations.readers.given_masks import RleMasks
from ..formats.images import check_size
from ..formats.label_maps import look_up, read_labels, read_panoptic_png
from ..painting import paint
from ..results.regions import regions_of


def draw(
    image: np.ndarray,
    prediction: Mapping[str, Any],
    metadata: Metadata,
    kind: str | None = None,
    threshold: float = 0.0,
    *,
    tracked: bool = False,
) -> np.ndarray:
    """Draw one result over its image, or over its frame of a video.

    Args:
        image: (H, W, 3), uint8, RGB.
        prediction: what the model returns for the image; see `MaskFormer.forward`. As ground truth
            has it, instances may lack scores, and a semantic result may be labels (H, W), with -1
            for none.
        metadata: names and colours of the classes.
        kind: one of `KINDS`; the richest if not given.
        threshold: instances below this score are left out, and pixels whose best class has less
            than this fraction of the scores; in 0..1. A panoptic result has no scores.
        tracked: the result is one that `VideoPredictor` yields: objects show their ids and have
            their colour by them, all through the video; it is painted quickly, see `paint`.

    Returns:
        (nH, nW, 3), uint8, RGB, enlarged n times where the image is small.

    Raises:
        UserError: the prediction has no such kind, or another size than the image.
    """
    regions = regions_of(prediction, metadata, kind, threshold, tracked=tracked)
    return paint(image, regions, quick=tracked)


def ground_truth(
    record: Mapping[str, Any], metadata: Metadata, size: tuple[int, int]
) -> dict[str, Any]:
    """Turn a record's annotations into what a model would return for a perfect prediction.

    Crowd is left out, as models do not predict it.

    Args:
        record: in detectron2's format; see `mask2former.data.DatasetMapper`.
        metadata: of the dataset; read are ignore_label and sem_seg_labels.
        size: (H, W) of the image, in pixels.

    Returns:
        those that the record has of `panoptic_seg`, `instances` (without scores and boxes) and
        `sem_seg`, int64 labels (H, W) with -1 for none; see `MaskFormer.forward`.

    Raises:
        FileNotFoundError: a file is missing.
        UserError: a file or annotation is damaged, or of another size; names it.
    """
    check_size(record, size, record["file_name"])
    truth: dict[str, Any] = {}
    if "pan_seg_file_name" in record:
        ids = _read(read_panoptic_png, record["pan_seg_file_name"], size)
        truth["panoptic_seg"] = _true_segments(ids, record["segments_info"])
    if "annotations" in record:
        truth["instances"] = _true_instances(record["annotations"], size)
    if "sem_seg_file_name" in record:
        labels = _read(read_labels, record["sem_seg_file_name"], size)
        truth["sem_seg"] = _true_labels(labels, metadata)
    return truth


def _read(reader: Callable[[str], np.ndarray], path: str, size: tuple[int, int]) -> np.ndarray:
    pixels = reader(path)
    check_size({"height": size[0], "width": size[1]}, pixels.shape, path)
    return pixels


def _true_segments(
    ids: np.ndarray, segments: Sequence[Mapping[str, Any]]
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Number segments from 1; crowd becomes void."""
    kept = [segment for segment in segments if not segment.get("iscrowd", 0)]
    infos = [
        {
            "id": number,
            "isthing": bool(segment.get("isthing", True)),
            "category_id": segment["category_id"],
        }
        for number, segment in enumerate(kept, start=1)
    ]
    table = {segment["id"]: info["id"] for segment, info in zip(kept, infos)}
    return torch.from_numpy(look_up(ids, table, 0, np.int32)), infos


def _true_instances(annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> Instances:
    kept = [i for i, annotation in enumerate(annotations) if not annotation.get("iscrowd", 0)]
    instances = Instances(size)
    instances.pred_masks = RleMasks(annotations, size)[kept]
    labels = [annotations[i]["category_id"] for i in kept]
    instances.pred_classes = torch.tensor(labels, dtype=torch.int64)
    return instances


def _true_labels(labels: np.ndarray, metadata: Metadata) -> Tensor:
    ignored = np.isin(labels, metadata.get("ignore_label", 255))
    numbers = metadata.get("sem_seg_labels")
    if numbers:
        labels = look_up(labels, {n: i for i, n in enumerate(numbers)}, -1, np.int64)
    return torch.from_numpy(np.where(ignored, -1, labels.astype(np.int64)))
