"""Finding the numbers nearest to zero among many."""

import numpy as np
from torch import Tensor

# Values from which on NumPy's selection takes less time than topk: 18 % of matcher and losses.
_WORTH_NUMPY = 2**19

# Rows whose samples are sorted together: few enough to stay in the cache.
_ROWS_TOGETHER = 4

# Values of a row that are sorted to guess where the largest of those wanted lies.
_SAMPLE = 1024
_STANDARD_ERRORS = 4  # of the guess, to both sides


def nearest_to_zero(values: Tensor, count: int, out: Tensor) -> None:
    """Write the indices of the values nearest to zero along the last axis, in no particular order.

    Args:
        values: (..., N), floating; NaN are the farthest.
        count: how many are wanted, at most N.
        out: (..., count), int64; a view will do.
    """
    if values.device.type != "cpu" or values.numel() < _WORTH_NUMPY or not count:
        out.copy_(values.abs().topk(count, largest=False, sorted=False).indices)
        return
    rows, chosen = values.float().flatten(0, -2).numpy(), out.view(-1, count).numpy()
    for start in range(0, len(rows), _ROWS_TOGETHER):
        block = slice(start, start + _ROWS_TOGETHER)
        _select(np.abs(rows[block]), count, chosen[block])


def _select(rows: np.ndarray, count: int, out: np.ndarray) -> None:
    """Write the indices (R, count) of the `count` smallest values of every row (R, N).

    A sample, the first values, bounds the largest of them. Values above the bounds are dropped,
    those below are taken, and few are left to choose from. Where the bounds are wrong, or values
    are equal, all are.
    """
    length = rows.shape[1]
    if length <= 2 * _SAMPLE:
        out[:] = rows.argpartition(count - 1)[:, :count]
        return
    low, high = _bounds(rows[:, :_SAMPLE], count / length)
    for i, row in enumerate(rows):
        index = (row <= high[i]).nonzero()[0]
        values = row.take(index)
        chosen = index.compress(values <= _last(values, low[i], count))
        out[i] = chosen if len(chosen) == count else row.argpartition(count - 1)[:count]


def _bounds(sample: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values between which the largest of the fraction of smallest ones lies, two (R,), most
    likely, from samples (R, S) of the rows."""
    rank = fraction * sample.shape[1]
    error = _STANDARD_ERRORS * (rank * (1 - fraction)) ** 0.5
    ordered = np.sort(sample)
    return tuple(ordered.take([int(rank - error), int(rank + error)], axis=1, mode="clip").T)


def _last(values: np.ndarray, low: float, count: int) -> float:
    """Return the largest of the `count` smallest values, if it is at least `low`; NaN if not."""
    doubtful = values.compress(values >= low)
    wanted = count - (len(values) - len(doubtful))
    if not 0 < wanted <= len(doubtful):
        return np.nan
    return np.partition(doubtful, wanted - 1)[wanted - 1]
