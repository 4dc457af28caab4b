"""Semantic scores of tiles, blended where they overlap."""

import numpy as np

from ..results.regions import semantic_labels
from .grid import Grid, Span, Tile


class Blender:
    """Blend scores and find the best class, in memory for what tiles share, not for the image.

    Weights fall linearly over what tiles share, and add up to 1.

    Args:
        grid: the tiles, whose scores come in its order.
        threshold: least fraction of a pixel's scores that its class has, in 0..1.
    """

    def __init__(self, grid: Grid, threshold: float = 0.0):
        self._width = grid.size[1]
        self._threshold = threshold
        # Weighted scores of tiles before, in what they share with those to come.
        self._left: np.ndarray | None = None
        self._above: np.ndarray | None = None
        self._below: np.ndarray | None = None

    def add(self, tile: Tile, scores: np.ndarray) -> np.ndarray:
        """Take in the scores of the next tile.

        Args:
            scores: (K, h, w) over what the model sees.

        Returns:
            the classes, int64, -1 for none, of `tile.y.done` and `tile.x.done`.
        """
        if tile.column == 0:
            self._left, self._above, self._below = None, self._below, None
        y, x = tile.y, tile.x
        sums = scores[(slice(None), *tile.local(y.used, x.used))].astype(np.float32)
        sums *= _taper(y)[:, None]
        sums *= _taper(x)
        if self._left is not None:
            sums[:, :, : self._left.shape[2]] += self._left
        width, height = x.next_begin - x.begin, y.next_begin - y.begin
        self._left = sums[:, :, width:].copy()
        sums = sums[:, :, :width]
        if self._above is not None:
            sums[:, : self._above.shape[1]] += self._above[:, :, x.done]
        if height < sums.shape[1]:
            if self._below is None:
                shape = (len(sums), sums.shape[1] - height, self._width)
                self._below = np.zeros(shape, np.float32)
            self._below[:, :, x.done] = sums[:, height:]
        return semantic_labels(sums[:, :height], self._threshold)


def _taper(span: Span) -> np.ndarray:
    """Return the weights of the pixels that are used of a side."""
    weights = np.ones(span.stop - span.begin, np.float32)
    before = max(span.last_stop - span.begin, 0)
    after = span.stop - span.next_begin
    weights[:before] = (np.arange(before) + 0.5) / max(before, 1)
    if after:
        weights[-after:] = 1 - (np.arange(after) + 0.5) / after
    return weights
