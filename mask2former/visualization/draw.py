"""Draws panoptic, semantic and instance results over the image, with detectron2's Visualizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

KINDS = ("panoptic", "instance", "semantic")
_KEYS = {"panoptic": "panoptic_seg", "instance": "instances", "semantic": "sem_seg"}

# Small images are drawn larger, since labels have a least size: shorter side in pixels.
_LEAST_SIDE = 384
_ALPHA = 0.55
_NO_LABEL = 255


def choose_kind(prediction: Mapping[str, Any], kind: str | None = None) -> str:
    """Say what to draw of a prediction: the kind wanted, or the richest one that it has.

    Raises:
        ValueError: an unknown kind, or one that the prediction lacks.
    """
    there = [k for k in KINDS if has_kind(prediction, k)]
    if kind is None and there:
        return there[0]
    if kind not in there:
        raise ValueError(
            f"cannot draw {kind or 'anything'}: the model gives {', '.join(there) or 'nothing'}. "
            "Turn outputs on with MODEL.MASK_FORMER.TEST.{PANOPTIC,INSTANCE,SEMANTIC}_ON."
        )
    return kind


def has_kind(prediction: Mapping[str, Any], kind: str) -> bool:
    """Whether a prediction, or ground truth in its form, has that kind of result."""
    return _KEYS[kind] in prediction


def draw(
    image: np.ndarray,
    prediction: Mapping[str, Any],
    metadata: Metadata,
    kind: str | None = None,
    threshold: float = 0.0,
) -> np.ndarray:
    """Draw one result over its image.

    Args:
        image: (H, W, 3), uint8, RGB.
        prediction: what the model returns for the image; see `MaskFormer.forward`. A semantic
            result may also be a label map (H, W) of integers.
        metadata: names and colours of the classes.
        kind: one of `KINDS`; the richest if not given.
        threshold: instances below this score are left out, and pixels whose best class has less
            than this share of the scores; in 0..1. A panoptic result has no scores.

    Returns:
        (H', W', 3), uint8, RGB, enlarged where the image is small.
    """
    kind = choose_kind(prediction, kind)
    scale = max(1.0, _LEAST_SIDE / min(image.shape[:2]))
    visualizer = Visualizer(image, metadata, scale)
    _DRAW[kind](visualizer, prediction[_KEYS[kind]], threshold)
    return visualizer.get_output().get_image()


def _draw_panoptic(
    visualizer: Visualizer, result: tuple[Tensor, list[dict]], threshold: float
) -> None:
    """Stuff in the colour of its class, things each in its own."""
    ids, segments = result[0].cpu().numpy(), result[1]
    things = [s for s in segments if s["isthing"]]
    for segment in (s for s in segments if not s["isthing"]):
        label, mask = segment["category_id"], ids == segment["id"]
        colour = _class_colour(visualizer.metadata, label)
        _draw_mask(visualizer, mask, colour, _class_name(visualizer.metadata, label, "stuff"))
    masks = [ids == s["id"] for s in things]
    names = [_class_name(visualizer.metadata, s["category_id"], "thing") for s in things]
    _draw_objects(visualizer, masks, names)


def _draw_instances(visualizer: Visualizer, instances: Instances, threshold: float) -> None:
    instances = instances[instances.scores >= threshold].to("cpu")
    names = [
        f"{_class_name(visualizer.metadata, label, 'thing')} {score:.0%}"
        for label, score in zip(instances.pred_classes.tolist(), instances.scores.tolist())
    ]
    _draw_objects(visualizer, list(instances.pred_masks.numpy() > 0.5), names)


def _draw_objects(visualizer: Visualizer, masks: list[np.ndarray], names: list[str]) -> None:
    """Large objects first, so that small ones stay visible; a colour for each."""
    colours = colormap(rgb=True, maximum=1)
    for place, i in enumerate(sorted(range(len(masks)), key=lambda i: -masks[i].sum())):
        _draw_mask(visualizer, masks[i], colours[place * 7 % len(colours)], names[i])


def _draw_mask(visualizer: Visualizer, mask: np.ndarray, colour: np.ndarray, name: str) -> None:
    if mask.any():  # an empty mask has no place for its label
        visualizer.draw_binary_mask(mask, tuple(colour), text=name, alpha=_ALPHA, area_threshold=0)


def _class_colour(metadata: Metadata, label: int) -> np.ndarray:
    colours = metadata.get("stuff_colors")
    if colours is None or label >= len(colours):
        return colormap(rgb=True, maximum=1)[label % 74]
    return np.asarray(colours[label]) / 255


def _class_name(metadata: Metadata, label: int, kind: str) -> str:
    """Name of a contiguous class; panoptic data sets list all classes among the stuff."""
    names = metadata.get("stuff_classes") or []
    things = (metadata.get("thing_dataset_id_to_contiguous_id") or {}).values()
    if kind == "thing" and max(things, default=label) >= len(names):
        names = metadata.get("thing_classes") or []
    return names[label] if label < len(names) else str(label)


def _draw_semantic(visualizer: Visualizer, scores: Tensor, threshold: float) -> None:
    labels = semantic_labels(scores, threshold).numpy()
    present, areas = np.unique(labels, return_counts=True)
    for label in present[np.argsort(-areas)].tolist():
        if label != _NO_LABEL:
            colour = _class_colour(visualizer.metadata, label)
            name = _class_name(visualizer.metadata, label, "stuff")
            _draw_mask(visualizer, labels == label, colour, name)


def semantic_labels(scores: Tensor, threshold: float = 0.0) -> Tensor:
    """Best class of every pixel.

    Args:
        scores: (K, H, W), or labels (H, W), which are returned as they are.
        threshold: least share of the best class in a pixel's scores, in 0..1.

    Returns:
        (H, W), int64, 255 where the best class has less.
    """
    if scores.dim() == 2:
        return scores.long().cpu()
    best, labels = scores.max(0)
    if threshold > 0:
        labels = torch.where(best < threshold * scores.sum(0), _NO_LABEL, labels)
    return labels.cpu()


_DRAW = {
    "panoptic": _draw_panoptic,
    "instance": _draw_instances,
    "semantic": _draw_semantic,
}
