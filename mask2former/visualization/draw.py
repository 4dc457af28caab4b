"""Draws panoptic, semantic and instance results over the image, with detectron2's Visualizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer
from torch import Tensor

KINDS = ("panoptic", "instance", "semantic")
_KEYS = {"panoptic": "panoptic_seg", "instance": "instances", "semantic": "sem_seg"}

# Small images are drawn larger, since labels have a least size: shorter side in pixels.
_LEAST_SIDE = 384
_ALPHA = 0.55


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
    # detectron2 draws colours from NumPy's global generator: the same picture every time.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        # Colours of classes for a panoptic picture, of objects for instances.
        visualizer = Visualizer(image, metadata, scale, ColorMode.IMAGE)
        drawn = _DRAW[kind](visualizer, prediction[_KEYS[kind]], threshold)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return drawn.get_image()


def _draw_panoptic(visualizer: Visualizer, result: tuple[Tensor, list[dict]], threshold: float):
    ids, segments = result
    # A segment without a visible pixel would have no place for its label.
    there = set(ids.unique().tolist())
    segments = [s for s in segments if s["id"] in there]
    return visualizer.draw_panoptic_seg_predictions(ids.cpu(), segments, alpha=_ALPHA)


def _draw_instances(visualizer: Visualizer, instances: Instances, threshold: float):
    instances = instances.to("cpu")
    instances = instances[instances.scores >= threshold]
    kept = Instances(instances.image_size)  # without boxes: the masks say where
    for name in ("scores", "pred_classes"):
        kept.set(name, instances.get(name))
    kept.pred_masks = instances.pred_masks.numpy() > 0.5
    return visualizer.draw_instance_predictions(kept)


def _draw_semantic(visualizer: Visualizer, scores: Tensor, threshold: float):
    return visualizer.draw_sem_seg(semantic_labels(scores, threshold), alpha=_ALPHA)


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
        labels = torch.where(best < threshold * scores.sum(0), 255, labels)
    return labels.cpu()


_DRAW = {
    "panoptic": _draw_panoptic,
    "instance": _draw_instances,
    "semantic": _draw_semantic,
}
