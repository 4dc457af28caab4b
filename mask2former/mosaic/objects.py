"""The objects of a tile: what its queries predict, as arrays."""

from dataclasses import dataclass

import numpy as np

# Least probability of the best class of an object: a part that a tile cuts off may have little, and
# belongs to its object all the same.
MIN_SCORE = 0.05


@dataclass(frozen=True)
class TileObjects:
    """The N objects of a tile that a model has seen in (h, w) pixels.

    Attributes:
        class_probs: (N, K+1), float32, no-object last.
        masks: (N, h, w), bool; objects may overlap.
        totals: (N,), the sum of the mask probabilities inside each mask.
        winner: (h, w), the object of highest class times mask probability; N where that one's mask
            does not hold the pixel.
        best: (h, w), the same object, whether its mask holds the pixel or not.
    """

    class_probs: np.ndarray
    masks: np.ndarray
    totals: np.ndarray
    winner: np.ndarray
    best: np.ndarray

    def __len__(self) -> int:
        return len(self.class_probs)


class ObjectMerger:
    """Keep the masks of the queries that may be objects, as `merge_masks` shows them.

    Args:
        class_probs: (Q, K+1).
        size: (h, w) of the tile.
    """

    def __init__(self, class_probs: np.ndarray, size: tuple[int, int]):
        scores = class_probs[:, :-1].max(1)
        self.queries = np.flatnonzero(scores >= MIN_SCORE)
        self._probs = class_probs[self.queries].astype(np.float32)
        self._scores = scores[self.queries, None, None]
        count = len(self.queries)
        kind = np.uint8 if count < 256 else np.uint16
        self._masks = np.zeros((count, *size), bool)
        self._totals = np.zeros(count)
        self._winner = np.full(size, count, kind)
        self._best = np.full(size, count, kind)

    def add(self, rows: slice, mask_logits: np.ndarray, mask_probs: np.ndarray) -> None:
        """Take in some rows of the masks (N, rows, w) of `queries`."""
        masks = mask_logits > 0
        self._masks[:, rows] = masks
        self._totals += np.where(masks, mask_probs, 0).sum((1, 2), dtype=np.float64)
        best = (self._scores * mask_probs).argmax(0)
        inside = np.take_along_axis(masks, best[None], 0)[0]
        self._best[rows] = best
        self._winner[rows] = np.where(inside, best, len(masks))

    def result(self) -> TileObjects:
        """Return the objects, some of which may have empty masks."""
        return TileObjects(self._probs, self._masks, self._totals, self._winner, self._best)
