"""Draws the results of the frames of a video, every object in one colour all along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances
from torch import Tensor

from ..evaluation.class_names import class_name
from ..pictures import Region
from ..pictures.frames import paint_frame
from .drawing import choose_kind, class_region, distinct_colour, semantic_labels

__all__ = ["draw_frame"]


def draw_frame(
    image: np.ndarray,
    prediction: Mapping[str, Any],
    metadata: Metadata,
    kind: str | None = None,
    threshold: float = 0.0,
) -> np.ndarray:
    """Draw the result of one frame over it.

    Args:
        image: (H, W, 3), uint8, RGB.
        prediction: what `VideoPredictor` yields for the frame.
        metadata: names and colours of the classes.
        kind: one of `KINDS`; the richest if not given.
        threshold: as for `draw`.

    Returns:
        (nH, nW, 3), uint8, RGB, enlarged n times where the frame is small.

    Raises:
        ValueError: the prediction has no such kind.
    """
    kind = choose_kind(prediction, kind)
    if kind == "panoptic":
        return paint_frame(image, _segments(*prediction["panoptic_seg"], metadata))
    if kind == "instance":
        return paint_frame(image, _tracks(prediction["instances"], metadata, threshold))
    labels = semantic_labels(prediction["sem_seg"], threshold).numpy()
    present = [label for label in np.unique(labels).tolist() if label >= 0]
    return paint_frame(image, (class_region(labels == k, k, metadata) for k in present))


def _segments(ids: Tensor, segments: Sequence[Mapping], metadata: Metadata) -> Iterator[Region]:
    """Stuff in the colour of its class, then things, each in that of its id."""
    ids = ids.cpu().numpy()
    for segment in sorted(segments, key=lambda segment: bool(segment["isthing"])):
        mask, label = ids == segment["id"], segment["category_id"]
        if segment["isthing"]:
            name = f"{segment['id']} {class_name(metadata, label, True)}"
            yield Region(mask, distinct_colour(segment["id"]), name)
        else:
            yield class_region(mask, label, metadata)


def _tracks(instances: Instances, metadata: Metadata, threshold: float) -> Iterator[Region]:
    """Large objects first, so that small ones stay visible."""
    instances = instances[instances.scores >= threshold].to("cpu")
    masks = (instances.pred_masks > 0.5).numpy()
    ids, labels = instances.track_ids.tolist(), instances.pred_classes.tolist()
    for i in np.argsort(-masks.sum((1, 2)), kind="stable").tolist():
        name = f"{ids[i]} {class_name(metadata, labels[i], True)} {instances.scores[i]:.0%}"
        yield Region(masks[i], distinct_colour(ids[i]), name)
