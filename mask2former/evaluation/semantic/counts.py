"""Pixels by true and predicted class, and the scores that follow from them."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ...errors import UserError
from ..instance.coco_ap import boundary_region, boundary_width


class SemanticCounts:
    """Pixels by true and predicted class, summed over images.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        # truth by guess; the last row is ignored pixels, the last column those without a guess
        self.confusion = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
        # pixels in both boundary regions, and in either, by class
        self.boundary = np.zeros((2, num_classes), dtype=np.int64)

    def __iadd__(self, other: Self) -> Self:
        self.confusion += other.confusion
        self.boundary += other.boundary
        return self

    def add(
        self, gt: np.ndarray, labels: np.ndarray, dilation_ratio: float | None = None
    ) -> float | None:
        """Count one image, and return its mean IoU over the classes that it has or was given.

        Args:
            gt: (H, W) integers in [0, K), -1 = ignore.
            labels: (H, W) integers in [0, K), -1 = none, which is wrong.
            dilation_ratio: counts boundary regions of this width too, where it is a number.

        Returns:
            a number in 0..1; None for an image all of whose pixels are ignored.

        Raises:
            UserError: the two differ in size.
        """
        K = self.num_classes
        if gt.shape != labels.shape:
            raise UserError(
                f"size: the ground truth has {gt.shape[0]} x {gt.shape[1]} pixels, the prediction "
                f"{labels.shape[0]} x {labels.shape[1]}; resize it to the size of the ground truth"
            )
        truth, guess = np.where(gt < 0, K, gt), np.where(labels < 0, K, labels)
        pairs = (truth * (K + 1) + guess).reshape(-1)
        confusion = np.bincount(pairs, minlength=(K + 1) ** 2).reshape(K + 1, K + 1)
        self.confusion += confusion
        if dilation_ratio is not None:
            height, width = gt.shape
            self._add_boundaries(gt, labels, boundary_width(height, width, dilation_ratio))
        valid = confusion[:-1]
        hits = valid[:, :-1].diagonal()
        either = valid.sum(axis=1) + valid[:, :-1].sum(axis=0) - hits
        seen = either > 0
        return float((hits[seen] / either[seen]).mean()) if seen.any() else None

    def _add_boundaries(self, gt: np.ndarray, labels: np.ndarray, width: int) -> None:
        # Ignored pixels end the image for both sides, so a perfect guess has the same contours.
        labels = np.where(gt < 0, -1, labels)
        for k in np.union1d(gt, labels):
            if k >= 0:
                true = boundary_region(gt == k, width)
                guess = boundary_region(labels == k, width)
                self.boundary[:, k] += (true & guess).sum(), (true | guess).sum()

    def summary(self, names: Sequence[str], with_boundary: bool = False) -> dict[str, float]:
        """Return the scores in percent, under detectron2's names.

        A class without pixels in the ground truth is NaN and left out of the means, but where it
        is predicted it counts as IoU 0 in mIoU.

        Args:
            names: K class names.

        Returns:
            mIoU, fwIoU, mACC, pACC, IoU-<name> and ACC-<name>; with_boundary mBoundaryIoU and
            BoundaryIoU-<name> too.
        """
        valid = self.confusion[:-1]
        hits = valid[:, :-1].diagonal().astype(float)
        true, guessed = valid.sum(axis=1), valid[:, :-1].sum(axis=0)
        exists = true > 0
        iou = _ratio(hits, true + guessed - hits, exists)
        accuracy = _ratio(hits, true, exists)
        num_seen = np.count_nonzero(true + guessed)
        result = {
            "mIoU": _divide(np.nansum(iou), num_seen),
            "fwIoU": _divide(np.nansum(iou * true), true.sum()),
            **{f"IoU-{name}": value for name, value in zip(names, iou.tolist(), strict=True)},
            "mACC": _divide(np.nansum(accuracy), np.count_nonzero(exists)),
            "pACC": _divide(hits.sum(), true.sum()),
            **{f"ACC-{name}": value for name, value in zip(names, accuracy.tolist(), strict=True)},
        }
        if with_boundary:
            both, either = self.boundary
            boundary = _ratio(both, either, exists)
            result["mBoundaryIoU"] = _divide(np.nansum(boundary), num_seen)
            result |= {f"BoundaryIoU-{n}": v for n, v in zip(names, boundary.tolist(), strict=True)}
        return {name: 100 * float(value) for name, value in result.items()}


def _ratio(part: np.ndarray, whole: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=where)


def _divide(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")
