"""From panoptic, instance and semantic results to coloured regions with names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..painting import Region
from .arrays import as_array
from .classes import class_name
from .colours import COLOURS

KINDS = ("panoptic", "instance", "semantic")
_KEYS = {"panoptic": "panoptic_seg", "instance": "instances", "semantic": "sem_seg"}

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


def regions_of(
    prediction: Mapping[str, Any],
    metadata: Mapping[str, Any],
    kind: str | None = None,
    threshold: float = 0.0,
    *,
    tracked: bool = False,
) -> Iterator[Region]:
    """Return what is painted of a prediction; see `mask2former.visualization.draw`.

    Raises:
        UserError: the prediction has no such kind.
    """
    kind = choose_kind(prediction, kind)
    result = prediction[_KEYS[kind]]
    if kind == "panoptic":
        ids, segments = result
        return _segments(ids, segments, metadata, tracked)
    if kind == "instance":
        return _instances(result, metadata, threshold, tracked)
    return _areas(as_array(semantic_labels(result, threshold)), metadata)


def semantic_labels(scores: Any, threshold: float = 0.0) -> Any:
    """Return the best class of every pixel.

    Args:
        scores: (K, H, W), or labels (H, W), which are returned as they are; a tensor or an array.
        threshold: least fraction of a pixel's scores that the best class has, in 0..1.

    Returns:
        (H, W), int64, -1 where the best class has less; a tensor on the CPU for a tensor.
    """
    if isinstance(scores, np.ndarray):
        if scores.ndim == 2:
            return scores.astype(np.int64)
        best, labels = scores.max(0), scores.argmax(0)
        return np.where(best < threshold * scores.sum(0), -1, labels) if threshold > 0 else labels
    if scores.dim() == 2:
        return scores.long().cpu()
    best, labels = scores.max(0)
    if threshold > 0:
        labels = labels.masked_fill(best < threshold * scores.sum(0), -1)
    return labels.cpu()


def _segments(
    ids: Any, segments: Sequence[Mapping], metadata: Mapping[str, Any], tracked: bool
) -> Iterator[Region]:
    """Yield stuff in the colour of its class, then things, each in its own."""
    ids = as_array(ids)
    things = [segment for segment in segments if segment["isthing"]]
    for segment in segments:
        if not segment["isthing"]:
            yield class_region(ids == segment["id"], segment["category_id"], metadata)
    masks = [ids == segment["id"] for segment in things]
    names = [class_name(metadata, segment["category_id"], True) for segment in things]
    yield from object_regions(masks, names, [s["id"] for s in things] if tracked else None)


def _instances(
    instances: Any, metadata: Mapping[str, Any], threshold: float, tracked: bool
) -> Iterator[Region]:
    if instances.has("scores"):
        instances = instances[instances.scores >= threshold]
    masks = as_array(instances.pred_masks > 0.5)
    names = [class_name(metadata, label, True) for label in instances.pred_classes.tolist()]
    if instances.has("scores"):
        names = [f"{name} {score:.0%}" for name, score in zip(names, instances.scores.tolist())]
    yield from object_regions(masks, names, instances.track_ids.tolist() if tracked else None)


def object_regions(
    masks: Sequence[np.ndarray] | np.ndarray, names: Sequence[str], ids: Sequence[int] | None = None
) -> Iterator[Region]:
    """Yield large objects first, so that small ones stay visible; a colour for each or its id.

    Args:
        masks: (N, H, W), bool.
        names: N of them.
        ids: numbers that choose the colours and stand before the names; None for neither.
    """
    by_area = sorted(range(len(masks)), key=lambda i: -np.count_nonzero(masks[i]))
    for rank, i in enumerate(by_area):
        number, name = (rank, names[i]) if ids is None else (ids[i], f"{ids[i]} {names[i]}")
        yield Region(masks[i], object_colour(number), name)


def _areas(labels: np.ndarray, metadata: Mapping[str, Any]) -> Iterator[Region]:
    for label in np.unique(labels).tolist():
        if label >= 0:
            yield class_region(labels == label, label, metadata)


def class_region(mask: np.ndarray, label: int, metadata: Mapping[str, Any]) -> Region:
    """Return a region (H, W), bool, in the colour of its class."""
    return Region(mask, class_colour(metadata, label), class_name(metadata, label, False))


def class_colour(metadata: Mapping[str, Any], label: int) -> np.ndarray:
    """Return the colour of a class, (3,), RGB in 0..1: its own, or one by its number."""
    colours = metadata.get("stuff_colors") or []
    if label < len(colours):
        return np.array(colours[label]) / 255
    return COLOURS[label % len(COLOURS)]


def object_colour(number: int) -> np.ndarray:
    """Return the colour of an object by its number, such that neighbours in number differ."""
    return COLOURS[number * _STEP % len(COLOURS)]
