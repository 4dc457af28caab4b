"""Ids that stay with the objects of a model for images, frame by frame."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from .linking import Objects, TrackLinker

_COMPARED_SIDE = 160  # masks are compared at about this shorter side, in pixels
_PATIENCE = 10  # frames for which an object may be missed
_MIN_IOU = 0.3  # of an object in two frames; nothing else identifies it


class FrameIds:
    """Re-identifies objects by the overlap of their masks with those of the frames before.

    An object may be missed for some frames; one that comes back elsewhere counts as new, as image
    models give nothing to identify it by.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._instances = _Ids()
        self._segments = _Ids()
        self._stuff: dict[int, int] = {}

    def of_instances(self, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the ids (N,), int64, from 1 on, of the instances of the next frame.

        Args:
            masks: (N, H, W), bool.
            labels: (N,), classes.
        """
        return np.array(self._instances.of(self._objects(_small(masks), labels)), np.int64)

    def of_segments(
        self, ids: np.ndarray, segments: Sequence[Mapping[str, Any]]
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return the panoptic map (H, W) of the next frame and its segments, with ids that stay,
        also those of stuff."""
        things = [segment for segment in segments if segment["isthing"]]
        old = np.array([s["id"] for s in things], ids.dtype)
        masks = _small(ids[None]) == old[:, None, None]
        labels = np.array([s["category_id"] for s in things], np.int64)
        new = dict(zip(old.tolist(), self._segments.of(self._objects(masks, labels))))
        for segment in segments:
            if not segment["isthing"]:
                label = segment["category_id"]
                if label not in self._stuff:
                    self._stuff[label] = self._segments.next()
                new[segment["id"]] = self._stuff[label]
        table = np.zeros(max(new, default=0) + 1, ids.dtype)
        table[list(new)] = list(new.values())
        return table[ids], [{**segment, "id": new[segment["id"]]} for segment in segments]

    def _objects(self, masks: np.ndarray, labels: np.ndarray) -> Objects:
        return Objects(masks[:, None], np.eye(self.num_classes, dtype=np.float32)[labels])


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


def _small(maps: np.ndarray) -> np.ndarray:
    """Return every n-th pixel of maps (N, H, W)."""
    step = max(1, min(maps.shape[-2:]) // _COMPARED_SIDE)
    return maps[:, ::step, ::step]
