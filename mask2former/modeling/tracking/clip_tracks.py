"""The best tracks of a clip, as tensors; `mask2former.tracks` has the rules."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ...tracks import clips
from ...tracks.scores import PUBLISHED_SCORES, QueryScores, best_tracks
from ..postprocessing.canvas import Canvas
from .queries import output_masks, score_queries
from .windows import Window


def clip_result(
    class_logits: Tensor,
    mask_logits: Tensor,
    canvas: Canvas,
    query_scores: QueryScores = PUBLISHED_SCORES,
) -> dict[str, Any]:
    """Return the best tracks of a clip that is one window, as published.

    Args:
        class_logits: (Q, K+1).
        mask_logits: (Q, T, h, w), over the padded canvas.
        canvas: says what the masks are resized to.
        query_scores: how queries are scored; as published, by class probabilities alone.

    Returns:
        see `VideoMaskFormer.forward`.
    """

    def masks_of(query: int) -> Tensor:
        frames = mask_logits[query].float()
        return torch.cat([output_masks(frame[None], canvas) for frame in frames])

    scores = score_queries(query_scores, class_logits, mask_logits)
    return best_tracks(canvas.output, scores, masks_of)


def joined_result(
    windows: Iterable[Window], query_scores: QueryScores = PUBLISHED_SCORES
) -> dict[str, Any]:
    """Return the best tracks of a clip that is several windows, in the form of `clip_result`; see
    `tracks.clips.joined_result`."""
    result = clips.joined_result(windows, query_scores)
    return result | {"pred_masks": [torch.from_numpy(masks) for masks in result["pred_masks"]]}
