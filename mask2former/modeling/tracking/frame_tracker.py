"""Give the results of an image model, frame by frame, ids that stay with their objects."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.structures import Instances

from ...tracks.frames import FrameIds


class FrameTracker:
    """Re-identifies objects by the overlap of their masks with those of the frames before; see
    `FrameIds`.

    Args:
        num_classes: K.
        score_threshold: instances of a lower score are left out, in 0..1.
    """

    def __init__(self, num_classes: int, score_threshold: float = 0.0):
        self.score_threshold = score_threshold
        self._ids = FrameIds(num_classes)

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
            ids, segments = result["panoptic_seg"]
            renamed, segments = self._ids.of_segments(ids.cpu().numpy(), segments)
            result["panoptic_seg"] = torch.from_numpy(renamed).to(ids.device), segments
        return result

    def _track_instances(self, instances: Instances) -> Instances:
        instances = instances[instances.scores >= self.score_threshold]
        masks = (instances.pred_masks > 0.5).cpu().numpy()
        ids = self._ids.of_instances(masks, instances.pred_classes.cpu().numpy())
        instances.track_ids = torch.from_numpy(ids)
        return instances
