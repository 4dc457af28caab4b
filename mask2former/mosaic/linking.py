"""Which objects of two tiles are the same: by overlap in what the tiles share, and by class.

The rule is that of tracks over windows of frames, see `mask2former.modeling.tracking.linking`:
pairs of enough overlap, those of the highest overlap times confidence first, each object once. In
space an object may also come back in parts, of which one tile sees how they hang together.
"""

from dataclasses import dataclass

import numpy as np

_MIN_IOU = 0.1  # of masks of one object in what the tiles share
_SURE_IOU = 0.5  # from which on masks say more than classes
_MIN_CLASS_OVERLAP = 0.5  # agreement of classes, measured by the Bhattacharyya coefficient
_MIN_INSIDE = 0.8  # of a part that a tile's border cuts off, in the object that it belongs to
_TIE = 1e-4  # gain of the same class, which decides where masks do not


@dataclass(frozen=True)
class Strip:
    """What a tile has in the strip that it shares with another one.

    Attributes:
        masks: (N, h, w), bool.
        class_probs: (N, K+1), no-object last.
        cut: (N,), whether the tile's border, inside the strip, cuts the object off.
    """

    masks: np.ndarray
    class_probs: np.ndarray
    cut: np.ndarray

    def only(self, chosen: np.ndarray) -> "Strip":
        """Return the strip with some of its objects."""
        return Strip(self.masks[chosen], self.class_probs[chosen], self.cut[chosen])


def link(first: Strip, second: Strip) -> list[tuple[int, int]]:
    """Return the pairs of objects of two tiles that are one object."""
    if not first.masks.any() or not second.masks.any():
        return []
    a, b = (strip.masks.reshape(len(strip.masks), -1) for strip in (first, second))
    shared = a.astype(np.float32) @ b.T.astype(np.float32)
    areas = np.count_nonzero(a, 1)[:, None], np.count_nonzero(b, 1)[None]
    iou = shared / np.maximum(areas[0] + areas[1] - shared, 1)
    known, new = (strip.class_probs[:, :-1] for strip in (first, second))
    alike = _class_overlap(known, new) >= _MIN_CLASS_OVERLAP
    gain = iou * known.max(1)[:, None] * new.max(1) + _TIE * (known @ new.T)
    pairs = _best_pairs(gain, (iou >= _MIN_IOU) & (alike | (iou >= _SURE_IOU)))
    left = np.ones(len(a), bool), np.ones(len(b), bool)
    for i, j in pairs:
        left[0][i] = left[1][j] = False
    parts = (left[0] & first.cut)[:, None] & (shared >= _MIN_INSIDE * np.maximum(areas[0], 1))
    parts |= (left[1] & second.cut) & (shared >= _MIN_INSIDE * np.maximum(areas[1], 1))
    rows, columns = np.nonzero(parts & alike & (shared > 0))
    return pairs + list(zip(rows.tolist(), columns.tolist()))


def _best_pairs(gain: np.ndarray, may_match: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs by falling gain (N, M), each row and column once."""
    rows, columns = np.nonzero(may_match)
    order = np.argsort(-gain[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for i, j in zip(rows[order].tolist(), columns[order].tolist()):
        if i not in taken[0] and j not in taken[1]:
            pairs.append((i, j))
            taken[0].add(i)
            taken[1].add(j)
    return pairs


def _class_overlap(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return how well the classes (N, K) and (M, K) of each pair agree, in 0..1."""
    roots = [np.sqrt(p / np.maximum(p.sum(1, keepdims=True), 1e-6)) for p in (known, new)]
    return roots[0] @ roots[1].T


class Groups:
    """Which of many objects are one; a forest whose trees are the groups."""

    def __init__(self) -> None:
        self._parents: list[int] = []

    def __len__(self) -> int:
        return len(self._parents)

    def add(self, count: int) -> None:
        """Add objects, each a group of its own."""
        self._parents.extend(range(len(self), len(self) + count))

    def join(self, first: int, second: int) -> None:
        """Make one group of those of two objects, named after its first object."""
        a, b = sorted((self._root(first), self._root(second)))
        self._parents[b] = a

    def numbers(self) -> np.ndarray:
        """Return the group of each object, (N,), counted from 0 on by their first objects."""
        roots = np.array([self._root(i) for i in range(len(self))], np.int64)
        return np.unique(roots, return_inverse=True)[1]

    def _root(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i
