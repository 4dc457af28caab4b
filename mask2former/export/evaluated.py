"""An exported file in place of its model, where detectron2 evaluates one."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from ..errors import UserError
from ..runtime import Runtime


class ExportedModel(nn.Module):
    """Gives the results of `Runtime` as `MaskFormer` gives its own.

    Args:
        runtime: of a file for images, that finds its own masks.

    Raises:
        UserError: the file is of another kind.
    """

    def __init__(self, runtime: Runtime):
        super().__init__()
        if (kind := runtime.metadata.kind) not in ("image", "per_pixel"):
            raise UserError(
                f"expected a file of a model for images, which finds its own masks, got one of the "
                f"kind {kind}"
            )
        self.runtime = runtime

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the results of images that are read and resized by the runtime itself.

        Args:
            batched_inputs: dicts with the `file_name` of each.
        """
        return [_as_tensors(self.runtime(x["file_name"])) for x in batched_inputs]


def _as_tensors(result: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "sem_seg" in result:
        found["sem_seg"] = torch.from_numpy(result["sem_seg"])
    if "panoptic_seg" in result:
        ids, segments = result["panoptic_seg"]
        found["panoptic_seg"] = torch.from_numpy(ids), segments
    if "instances" in result:
        mine = result["instances"]
        instances = Instances(mine.image_size)
        instances.pred_masks = torch.from_numpy(mine.pred_masks)
        instances.pred_boxes = Boxes(torch.from_numpy(mine.pred_boxes))
        instances.scores = torch.from_numpy(mine.scores)
        instances.pred_classes = torch.from_numpy(mine.pred_classes)
        found["instances"] = instances
    return found
