"""Semantic scores of tiles, blended where they overlap."""

from collections import deque
from typing import NamedTuple

import numpy as np

from ..results.regions import semantic_labels
from .grid import Grid, Span, Tile

_LIKELY = 6  # classes of a pixel whose scores wait for the next row of tiles


class Blender:
    """Blend scores and find the best class, in memory for what tiles share, not for the image.

    Weights fall linearly over what tiles share, and add up to 1. What waits for the next row of
    tiles are the highest scores of each pixel alone, so that memory for a wide image does not grow
    with the number of classes.

    Args:
        grid: the tiles, whose scores come in its order.
        threshold: least fraction of a pixel's scores that its class has, in 0..1.
    """

    def __init__(self, grid: Grid, threshold: float = 0.0):
        self._threshold = threshold
        # Weighted scores of tiles before, in what they share with those to come.
        self._left: np.ndarray | None = None
        self._above: deque[_Likely] = deque()  # of each tile of the row above
        self._below: deque[_Likely] = deque()

    def add(self, tile: Tile, scores: np.ndarray) -> np.ndarray:
        """Take in the scores of the next tile.

        Args:
            scores: (K, h, w) over what the model sees.

        Returns:
            the classes, int64, -1 for none, of `tile.y.done` and `tile.x.done`.
        """
        if tile.column == 0:
            self._left, self._above, self._below = None, self._below, deque()
        y, x = tile.y, tile.x
        sums = scores[(slice(None), *tile.local(y.used, x.used))].astype(np.float32)
        sums *= _taper(y)[:, None]
        sums *= _taper(x)
        if self._left is not None:
            sums[:, :, : self._left.shape[2]] += self._left
        width, height = x.next_begin - x.begin, y.next_begin - y.begin
        self._left = sums[:, :, width:].copy()
        sums = sums[:, :, :width]
        if self._above:
            self._above.popleft().add_to(sums)
        if height < sums.shape[1]:
            self._below.append(_Likely.of(sums[:, height:]))
        return semantic_labels(sums[:, :height], self._threshold)


class _Likely(NamedTuple):
    """Scores (K, h, w) of which the highest of each pixel are kept, and the mean of the others.

    Attributes:
        labels: (L, h, w), the classes of the highest.
        scores: (L, h, w), by how much they are above the mean of the others.
        rest: (h, w), that mean; 0 where there are no others.
    """

    labels: np.ndarray
    scores: np.ndarray
    rest: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray) -> "_Likely":
        """Choose from all."""
        others = np.moveaxis(scores, 0, 2).copy()  # in whose last axis the best is found fast
        count = min(_LIKELY, len(scores))
        labels = np.empty((count, *scores.shape[1:]), np.int16)
        for i in range(count):
            labels[i] = others.argmax(2)
            np.put_along_axis(others, labels[i, :, :, None].astype(np.intp), -np.inf, 2)
        found = np.take_along_axis(scores, labels.astype(np.intp), 0)
        if count == len(scores):
            return cls(labels, found, np.zeros(scores.shape[1:], np.float32))
        rest = (scores.sum(0) - found.sum(0)) / (len(scores) - count)
        return cls(labels, found - rest, rest)

    def add_to(self, sums: np.ndarray) -> None:
        """Add them to the upper rows of scores (K, h', w)."""
        sums = sums[:, : len(self.rest)]
        labels = self.labels.astype(np.intp)
        found = np.take_along_axis(sums, labels, 0) + self.scores
        np.put_along_axis(sums, labels, found, 0)
        sums += self.rest


def _taper(span: Span) -> np.ndarray:
    """Return the weights of the pixels that are used of a side."""
    weights = np.ones(span.stop - span.begin, np.float32)
    before = max(span.last_stop - span.begin, 0)
    after = span.stop - span.next_begin
    weights[:before] = (np.arange(before) + 0.5) / max(before, 1)
    if after:
        weights[-after:] = 1 - (np.arange(after) + 0.5) / after
    return weights
