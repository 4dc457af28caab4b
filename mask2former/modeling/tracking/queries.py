"""What tracks are made of, from the tensors that a model predicts."""

import numpy as np
import torch
from torch import Tensor

from ...tracks.scores import QueryScores, iou_of_overlaps
from ..postprocessing.canvas import Canvas


@torch.no_grad()
def score_queries(
    query_scores: QueryScores, class_logits: Tensor, mask_logits: Tensor
) -> np.ndarray:
    """Return scores (Q, K) from logits (Q, K+1) and (Q, T, h, w); no-object has none."""
    probs = class_logits.float().softmax(-1)[:, :-1].cpu().numpy()
    if not query_scores.uses_masks:
        return probs
    sums = (sum(parts) for parts in zip(*map(mask_sums, mask_logits.unbind(1))))
    total, shared = (x.cpu().numpy() for x in sums)
    area = shared.diagonal()
    return query_scores.weigh(
        probs, total / np.maximum(area, 1), iou_of_overlaps(shared, area, area)
    )


def mask_sums(mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return, of one frame of logits (N, h, w), the sum (N,) of the probabilities inside each mask,
    and the number of pixels (N, N) that all pairs share; on the diagonal are the areas."""
    logits = mask_logits.flatten(1).float()
    inside = (logits > 0).float()
    return (logits.sigmoid() * inside).sum(1), inside @ inside.T


def output_masks(mask_logits: Tensor, canvas: Canvas) -> Tensor:
    """Return binary masks (N, *canvas.output) on the CPU, of logits (N, h, w)."""
    if not len(mask_logits):
        return torch.zeros(0, *canvas.output, dtype=torch.bool)
    return (canvas.resize_to_output(mask_logits.float()) > 0).cpu()
