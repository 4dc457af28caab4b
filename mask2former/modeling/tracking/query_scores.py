"""Scores of a video model's queries, from classes and, if wanted, from masks."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
        ValueError: duplicate_iou is not in 0..1.
    """

    mask_quality: bool = False
    duplicate_iou: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.duplicate_iou <= 1:
            raise ValueError(
                "MODEL.MASK_FORMER.TEST.VIDEO_DUPLICATE_IOU: expected an IoU in 0..1 (1: "
                f"duplicates count in full, as published), got {self.duplicate_iou}."
            )

    @torch.no_grad()
    def __call__(self, class_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """Return scores (Q, K) from logits (Q, K+1) and (Q, T, h, w); no-object has none."""
        probs = class_logits.float().softmax(-1)[:, :-1]
        return self.weigh(probs, *_mask_statistics(mask_logits)) if self.uses_masks else probs

    @property
    def uses_masks(self) -> bool:
        """Whether anything but classes counts."""
        return self.mask_quality or self.duplicate_iou < 1

    def weigh(self, probs: Tensor, quality: Tensor, iou: Tensor) -> Tensor:
        """Return scores (Q, K) from class probabilities (Q, K), the quality (Q,) of the masks and
        the IoU of all pairs (Q, Q)."""
        if self.mask_quality:
            probs = probs * quality[:, None]
        if self.duplicate_iou < 1:
            kept = soft_nms(probs.amax(1), iou, self.duplicate_iou)
            probs = probs * kept[:, None]
        return probs


PUBLISHED_SCORES = QueryScores()


def soft_nms(scores: Tensor, iou: Tensor, threshold: float) -> Tensor:
    """Return the factors (Q,), in 0..1, by which linear Soft-NMS lowers the scores.

    Args:
        scores: (Q,), not negative.
        iou: (Q, Q).
        threshold: IoU above which the lower of two scores is multiplied by 1 - IoU.
    """
    overlaps, rest = iou.cpu(), scores.cpu().clone()
    factors = torch.ones_like(rest)
    for _ in range(len(rest)):
        best = int(rest.argmax())
        rest[best] = -1  # chosen; no longer lowered
        lower = torch.where(overlaps[best] > threshold, 1 - overlaps[best], 1.0)
        lower[rest < 0] = 1
        rest *= lower
        factors *= lower
    return factors.to(scores.device)


def iou_of_overlaps(shared: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of all pairs of S and N masks, (S, N), 0 where both are empty, from the number
    of pixels that they share, (S, N), and their areas, (S,) and (N,)."""
    return shared / (first[:, None] + second - shared).clamp(min=1)


def confidence_inside(mask_logits: Tensor) -> Tensor:
    """Return the sum (N,) of the probabilities inside masks, from logits (N, h, w)."""
    logits = mask_logits.flatten(1).float()
    return (logits.sigmoid() * (logits > 0)).sum(1)


def _mask_statistics(mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean probability inside each mask (Q,), 0 for an empty one, and the IoU of all
    pairs (Q, Q), of tubes (Q, T, h, w), of which one frame at a time is in float32."""
    count = len(mask_logits)
    total = torch.zeros(count, device=mask_logits.device)
    shared = torch.zeros(count, count, device=mask_logits.device)
    for frame in mask_logits.unbind(1):
        inside = (frame > 0).flatten(1).float()
        total += confidence_inside(frame)
        shared += inside @ inside.T
    area = shared.diagonal()
    return total / area.clamp(min=1), iou_of_overlaps(shared, area, area)
