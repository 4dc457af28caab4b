"""Which objects of two tiles are the same: by overlap in what the tiles share, and by class.

The rule is that of tracks over windows of frames, see `mask2former.tracks.linking`:
pairs of enough overlap, those of the highest overlap times confidence first, each object once. In
space an object may also come back in parts, of which one tile sees how they hang together.
"""

from dataclasses import dataclass

import numpy as np

_MIN_SCORE = 0.3  # of objects that are linked: others may be parts of anything, or of nothing
_MIN_IOU = 0.3  # of masks of one object in what the tiles share
_MIN_INSIDE = 0.8  # of a part that a tile's border cuts off, in the object that it belongs to


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
    shared = _shared(a, b)
    areas = np.count_nonzero(a, 1)[:, None], np.count_nonzero(b, 1)[None]
    iou = shared / np.maximum(areas[0] + areas[1] - shared, 1)
    known, new = (strip.class_probs[:, :-1] for strip in (first, second))
    alike = (known.argmax(1)[:, None] == new.argmax(1)) & (shared > 0)
    alike &= (known.max(1) >= _MIN_SCORE)[:, None] & (new.max(1) >= _MIN_SCORE)
    pairs = _best_pairs(iou * known.max(1)[:, None] * new.max(1), alike & (iou >= _MIN_IOU))
    # Parts of what is left: of the other tile's objects, what no pair explains yet.
    left = [strip.cut.copy() for strip in (first, second)]
    rest = [a.copy(), b.copy()]
    for i, j in pairs:
        left[0][i] = left[1][j] = False
        rest[0][i] &= ~b[j]
        rest[1][j] &= ~a[i]
    parts = left[0][:, None] & (_shared(a, rest[1]) >= _MIN_INSIDE * areas[0])
    parts |= left[1] & (_shared(rest[0], b) >= _MIN_INSIDE * areas[1])
    rows, columns = np.nonzero(parts & alike)
    return pairs + list(zip(rows.tolist(), columns.tolist()))


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the pixels (N, M) that all pairs of masks (N, P) and (M, P) share."""
    return a.astype(np.float32) @ b.T.astype(np.float32)


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
