"""Scores of the queries of a clip, and which of them are the best."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError

MAX_TRACKS = 10  # of a clip, as published


@dataclass(frozen=True)
class QueryScores:
    """What a query's class probabilities are multiplied by before the best are taken.

    The published video model takes the class probability alone, and two queries on one object both
    count. Either option changes scores, never a mask.

    Args:
        mask_quality: multiply by the mean probability of the pixels inside the mask, as the image
            model does (Mask2Former, Cheng et al. 2022, appendix).
        duplicate_iou: queries whose masks overlap a better one's by more than this IoU, whatever
            their class, count by 1 - IoU of their score: linear Soft-NMS (Bodla et al. 2017,
            equation 3) over whole tubes. 1 for none.

    Raises:
        UserError: duplicate_iou is not in 0..1.
    """

    mask_quality: bool = False
    duplicate_iou: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.duplicate_iou <= 1:
            raise UserError(
                "MODEL.MASK_FORMER.TEST.VIDEO_DUPLICATE_IOU: expected an IoU in 0..1 (1: "
                f"duplicates count in full, as published), got {self.duplicate_iou}."
            )

    @property
    def uses_masks(self) -> bool:
        """Whether anything but classes counts."""
        return self.mask_quality or self.duplicate_iou < 1

    def weigh(self, probs: np.ndarray, quality: np.ndarray, iou: np.ndarray) -> np.ndarray:
        """Return scores (Q, K) from class probabilities (Q, K), the quality (Q,) of the masks and
        the IoU of all pairs (Q, Q)."""
        if self.mask_quality:
            probs = probs * quality[:, None]
        if self.duplicate_iou < 1 and len(probs):
            probs = probs * soft_nms(probs.max(1), iou, self.duplicate_iou)[:, None]
        return probs


PUBLISHED_SCORES = QueryScores()


def soft_nms(scores: np.ndarray, iou: np.ndarray, threshold: float) -> np.ndarray:
    """Return the factors (Q,), in 0..1, by which linear Soft-NMS lowers the scores.

    Args:
        scores: (Q,), not negative.
        iou: (Q, Q).
        threshold: IoU above which the lower of two scores is multiplied by 1 - IoU.
    """
    rest, factors = scores.copy(), np.ones_like(scores)
    for _ in range(len(rest)):
        best = int(rest.argmax())
        rest[best] = -1  # chosen; no longer lowered
        lower = np.where((iou[best] > threshold) & (rest >= 0), 1 - iou[best], 1)
        rest *= lower
        factors *= lower
    return factors


def mask_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of masks or tubes (S, ...) with others (N, ...), bool: (S, N), float32; 0
    where both are empty."""
    pixels = math.prod(first.shape[1:])
    a, b = (masks.reshape(len(masks), pixels).astype(np.float32) for masks in (first, second))
    return iou_of_overlaps(a @ b.T, a.sum(1), b.sum(1))


def iou_of_overlaps(shared: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of all pairs of S and N masks, (S, N), 0 where both are empty, from the number
    of pixels that they share, (S, N), and their areas, (S,) and (N,)."""
    return shared / np.maximum(first[:, None] + second - shared, 1)


def best_tracks(
    size: tuple[int, int], scores: np.ndarray, masks_of: Callable[[int], Any]
) -> dict[str, Any]:
    """Return the result of a clip: its best pairs of a query, or track, and a class, best first.

    Args:
        size: (H, W) of the masks.
        scores: (N, K).
        masks_of: makes the masks (T, H, W) of a row.

    Returns:
        see `VideoMaskFormer.forward`.
    """
    flat = scores.ravel()
    order = np.argsort(-flat, kind="stable")[:MAX_TRACKS]
    rows, labels = (order // scores.shape[1]).tolist(), (order % scores.shape[1]).tolist()
    masks = {row: masks_of(row) for row in sorted(set(rows))}  # several classes may share one
    return {
        "image_size": size,
        "pred_scores": flat[order].tolist(),
        "pred_labels": labels,
        "pred_masks": [masks[row] for row in rows],
    }
