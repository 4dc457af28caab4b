"""Draw panoptic, semantic and instance results, and ground truth, over images and frames."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap
from torch import Tensor

from ..annotations.readers.given_masks import RleMasks
from ..errors import UserError
from ..evaluation.common import class_name
from ..formats.images import check_size
from ..formats.label_maps import look_up, read_labels, read_panoptic_png
from ..painting import Region, paint

KINDS = ("panoptic", "instance", "semantic")
_KEYS = {"panoptic": "panoptic_seg", "instance": "instances", "semantic": "sem_seg"}

_COLOURS = colormap(rgb=True, maximum=1)  # (74, 3)
_STEP = 7  # neighbours in the colour map are alike, and 7 has no factor in common with 74


def choose_kind(prediction: Mapping[str, Any], kind: str | None = None) -> str:
    """Say what to draw of a prediction: the kind wanted, or the richest one that it has.

    Raises:
        UserError: an unknown kind, or one that the prediction lacks.
    """
    given = [k for k in KINDS if has_kind(prediction, k)]
    if kind is None and given:
        return given[0]
    if kind not in given:
        raise UserError(
            f"cannot draw {kind or 'anything'}: the model gives {', '.join(given) or 'nothing'}. "
            "Turn outputs on with MODEL.MASK_FORMER.TEST.{PANOPTIC,INSTANCE,SEMANTIC}_ON."
        )
    return kind


def has_kind(prediction: Mapping[str, Any], kind: str) -> bool:
    """Say whether a prediction, or ground truth in its form, has that kind of result."""
    return _KEYS[kind] in prediction


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
    kind = choose_kind(prediction, kind)
    result = prediction[_KEYS[kind]]
    if kind == "panoptic":
        regions = _segments(*result, metadata, tracked)
    elif kind == "instance":
        regions = _instances(result, metadata, threshold, tracked)
    else:
        regions = _areas(semantic_labels(result, threshold), metadata)
    return paint(image, regions, quick=tracked)


def semantic_labels(scores: Tensor, threshold: float = 0.0) -> Tensor:
    """Return the best class of every pixel.

    Args:
        scores: (K, H, W), or labels (H, W), which are returned as they are.
        threshold: least fraction of a pixel's scores that the best class has, in 0..1.

    Returns:
        (H, W), int64, -1 where the best class has less.
    """
    if scores.dim() == 2:
        return scores.long().cpu()
    best, labels = scores.max(0)
    if threshold > 0:
        labels = torch.where(best < threshold * scores.sum(0), -1, labels)
    return labels.cpu()


def _segments(
    ids: Tensor, segments: Sequence[Mapping], metadata: Metadata, tracked: bool
) -> Iterator[Region]:
    """Yield stuff in the colour of its class, then things, each in its own."""
    ids = ids.cpu().numpy()
    things = [segment for segment in segments if segment["isthing"]]
    for segment in segments:
        if not segment["isthing"]:
            yield _class_region(ids == segment["id"], segment["category_id"], metadata)
    masks = [ids == segment["id"] for segment in things]
    names = [class_name(metadata, segment["category_id"], True) for segment in things]
    yield from _objects(masks, names, [s["id"] for s in things] if tracked else None)


def _instances(
    instances: Instances, metadata: Metadata, threshold: float, tracked: bool
) -> Iterator[Region]:
    if instances.has("scores"):
        instances = instances[instances.scores >= threshold]
    masks = (instances.pred_masks > 0.5).cpu().numpy()
    names = [class_name(metadata, label, True) for label in instances.pred_classes.tolist()]
    if instances.has("scores"):
        names = [f"{name} {score:.0%}" for name, score in zip(names, instances.scores.tolist())]
    yield from _objects(masks, names, instances.track_ids.tolist() if tracked else None)


def _objects(
    masks: Sequence[np.ndarray], names: Sequence[str], ids: Sequence[int] | None
) -> Iterator[Region]:
    """Yield large objects first, so that small ones stay visible; a colour for each or its id."""
    by_area = sorted(range(len(masks)), key=lambda i: -np.count_nonzero(masks[i]))
    for rank, i in enumerate(by_area):
        number, name = (rank, names[i]) if ids is None else (ids[i], f"{ids[i]} {names[i]}")
        yield Region(masks[i], _COLOURS[number * _STEP % len(_COLOURS)], name)


def _areas(labels: Tensor, metadata: Metadata) -> Iterator[Region]:
    labels = labels.numpy()
    for label in np.unique(labels).tolist():
        if label >= 0:
            yield _class_region(labels == label, label, metadata)


def _class_region(mask: np.ndarray, label: int, metadata: Metadata) -> Region:
    """Return a region (H, W), bool, in the colour of its class."""
    colours = metadata.get("stuff_colors") or []
    colour = _COLOURS[label % len(_COLOURS)]
    if label < len(colours):
        colour = np.array(colours[label]) / 255
    return Region(mask, colour, class_name(metadata, label, False))


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
