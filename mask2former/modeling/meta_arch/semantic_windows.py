"""Semantic scores of windows along the longer side of an image, averaged where they overlap.

So models of one image size see images of every shape at that size.
Source: Your ViT is Secretly an Image Segmentation Model, Kerssies et al. 2025, section 4.
"""

import math
from typing import Any

import torch
from detectron2.structures import ImageList
from torch import Tensor

from ...ops.masks import resize
from ..postprocessing.canvas import Canvas


def window_starts(length: int, window: int) -> list[int]:
    """Return where windows start that cover a length and overlap equally, as few as possible."""
    count = math.ceil(length / window)
    overlap = (count * window - length) / max(count - 1, 1)
    return [int(i * (window - overlap)) for i in range(count)]


def scores_of_windows(model: Any, x: dict, window: int) -> Tensor:
    """Return semantic scores (K, H, W) of one input, in the size of its output.

    Args:
        model: a `MaskFormer` in eval mode.
        x: an input of its `forward`.
        window: length of the windows along the longer side of the image, in its pixels.
    """
    image = x["image"]
    axis = 1 if image.shape[1] > image.shape[2] else 2
    starts = window_starts(image.shape[axis], window)
    length = min(window, image.shape[axis])
    images = model.preprocess([image.narrow(axis, start, length) for start in starts])
    outputs = model.predict(images.tensor)
    total, counts = None, torch.zeros(image.shape[axis], device=model.device)
    for start, class_logits, mask_logits in zip(
        starts, outputs["pred_logits"], outputs["pred_masks"]
    ):
        scores = model.semantic_scores(class_logits, mask_logits, _canvas(images))
        if total is None:
            total = scores.new_zeros(len(scores), *image.shape[1:], dtype=torch.float32)
        total.narrow(axis, start, length).add_(scores)
        counts[start : start + length] += 1
    total /= counts[:, None] if axis == 1 else counts
    output = (int(x.get("height", image.shape[1])), int(x.get("width", image.shape[2])))
    return resize(total, output)


def _canvas(images: ImageList) -> Canvas:
    padded = (images.tensor.shape[-2], images.tensor.shape[-1])
    size = (int(images.image_sizes[0][0]), int(images.image_sizes[0][1]))
    return Canvas(padded, size, size)
