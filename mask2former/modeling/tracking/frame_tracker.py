"""Give the results of an image model, frame by frame, ids that stay with their objects."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor

from .linking import Objects, TrackLinker

_COMPARED_SIDE = 160  # masks are compared at about this shorter side, in pixels
_PATIENCE = 10  # frames for which an object may be missed
_MIN_IOU = 0.3  # of an object in two frames; nothing else identifies it


class FrameTracker:
    """Re-identifies objects by the overlap of their masks with those of the frames before.

    An object may be missed for some frames; one that comes back elsewhere counts as new, as image
    models give nothing to identify it by.

    Args:
        num_classes: K.
        score_threshold: instances of a lower score are left out, in 0..1.
    """

    def __init__(self, num_classes: int, score_threshold: float = 0.0):
        self.num_classes = num_classes
        self.score_threshold = score_threshold
        self._instances = _Ids()
        self._segments = _Ids()
        self._stuff: dict[int, int] = {}

    def update(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """Track the objects of the next frame.

        Args:
            prediction: of one image; see `MaskFormer.forward`.

        Returns:
            the same, where "instances" have ``track_ids`` (N,) int64, from 1 on, and those of a low
            score are left out; and "panoptic_seg" has ids that stay, also those of stuff.
        """
        result = dict(prediction)
        if "instances" in result:
            result["instances"] = self._track_instances(result["instances"])
        if "panoptic_seg" in result:
            result["panoptic_seg"] = self._track_segments(*result["panoptic_seg"])
        return result

    def _track_instances(self, instances: Instances) -> Instances:
        instances = instances[instances.scores >= self.score_threshold]
        masks = _small(instances.pred_masks > 0.5)
        ids = self._instances.of(self._objects(masks, instances.pred_classes))
        instances.track_ids = torch.tensor(ids, dtype=torch.int64)
        return instances

    def _track_segments(
        self, ids: Tensor, segments: Sequence[Mapping[str, Any]]
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        things = [segment for segment in segments if segment["isthing"]]
        old = torch.tensor([s["id"] for s in things], dtype=ids.dtype, device=ids.device)
        masks = _small(ids[None]) == old[:, None, None]
        labels = torch.tensor([s["category_id"] for s in things], dtype=torch.int64)
        new = dict(zip(old.tolist(), self._segments.of(self._objects(masks, labels))))
        for segment in segments:
            if not segment["isthing"]:
                label = segment["category_id"]
                if label not in self._stuff:
                    self._stuff[label] = self._segments.next()
                new[segment["id"]] = self._stuff[label]
        table = torch.zeros(max(new, default=0) + 1, dtype=ids.dtype)
        table[list(new)] = torch.tensor(list(new.values()), dtype=ids.dtype)
        renamed = table.to(ids.device)[ids.long()]
        return renamed, [{**segment, "id": new[segment["id"]]} for segment in segments]

    def _objects(self, masks: Tensor, labels: Tensor) -> Objects:
        classes = torch.nn.functional.one_hot(labels.long(), self.num_classes)
        return Objects(masks[:, None], classes.float())


class _Ids:
    """Numbers tracks from 1 on."""

    def __init__(self) -> None:
        self._linker = TrackLinker(min_iou=_MIN_IOU, mask_memory=_PATIENCE, track_memory=_PATIENCE)
        self._numbers = count(1)

    def next(self) -> int:
        return next(self._numbers)

    def of(self, objects: Objects) -> list[int]:
        """Return the ids of the objects of the next frame."""
        tracks = self._linker.update(objects, shared=1)
        for track in tracks:
            track.id = track.id or self.next()
        return [track.id for track in tracks]


def _small(maps: Tensor) -> Tensor:
    """Return every n-th pixel of maps (N, H, W)."""
    step = max(1, min(maps.shape[-2:]) // _COMPARED_SIDE)
    return maps[:, ::step, ::step]
