"""Instances: their entries in COCO's result files."""

from typing import Any

import numpy as np

from ..formats.rle import bounding_box, encode_masks
from .arrays import as_array
from .classes import CategoryIds


def instances_to_json(instances: Any, ids: CategoryIds) -> list[dict[str, Any]]:
    """Turn the N instances of an image into COCO results, which still lack the image.

    Args:
        instances: detectron2's or the runtime's, with scores, pred_classes and, where they have
            them, pred_boxes (x0, y0, x1, y1) and pred_masks (N, H, W).
        ids: maps their classes.

    Returns:
        N dicts with category_id, score, bbox (x, y, width, height in pixels) and segmentation, the
        latter two where the instances have boxes or masks.

    Raises:
        UserError: a class that the dataset lacks.
    """
    columns: dict[str, list[Any]] = {
        "category_id": [ids[label] for label in instances.pred_classes.tolist()],
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = encode_masks(instances.pred_masks)
    if instances.has("pred_boxes"):
        boxes = as_array(getattr(instances.pred_boxes, "tensor", instances.pred_boxes))
        columns["bbox"] = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
    elif "segmentation" in columns:
        columns["bbox"] = [bounding_box(mask) for mask in columns["segmentation"]]
    return [dict(zip(columns, row)) for row in zip(*columns.values(), strict=True)]
