"""Finding the numbers nearest to zero among many."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# Values from which on rows that are selected from by NumPy, in threads, take less time than topk.
_WORTH_THREADS = 2**19

# Values that a thread looks at together: few enough to stay in the cache.
_VALUES_PER_BLOCK = 2**18

# Values of a row that are sorted to guess where the largest of those wanted lies.
_SAMPLE = 2048
_STANDARD_ERRORS = 4  # of the guess, to both sides


def nearest_to_zero(values: Tensor, count: int, out: Tensor) -> None:
    """Write the indices of the values nearest to zero along the last axis, in no particular order.

    Args:
        values: (..., N), floating; NaN are the farthest.
        count: how many are wanted, at most N.
        out: (..., count), int64; a view will do.
    """
    if values.device.type != "cpu" or values.numel() < _WORTH_THREADS or not count:
        out.copy_(values.abs().topk(count, largest=False, sorted=False).indices)
        return
    rows, chosen = values.float().flatten(0, -2).numpy(), out.view(-1, count).numpy()
    step = max(1, min(_VALUES_PER_BLOCK // rows.shape[1], -(-len(rows) // torch.get_num_threads())))

    def select(start: int) -> None:
        block = slice(start, start + step)
        chosen[block] = _select(np.abs(rows[block]), count)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(select, range(0, len(rows), step)))


def _select(rows: np.ndarray, count: int) -> np.ndarray:
    """Indices (R, count) of so many smallest values of every row (R, N).

    A sample, the first values, tells nearly how large the last of them is. What is surely larger
    is dropped, and what is surely smaller taken, in two passes; few are left to choose from. Where
    the sample was a bad one, or values are equal, all are.
    """
    length = rows.shape[1]
    if length > 2 * _SAMPLE:
        low, high = _bounds(rows[:, :_SAMPLE], count / length)
        index = np.flatnonzero(rows <= high)  # row after row
        values = rows.take(index)
        ends = np.searchsorted(index, length * np.arange(1, len(rows) + 1))
        parts = np.split(values, ends[:-1])
        last = [_last(part, least, count) for part, least in zip(parts, low)]
        chosen = index.compress(values <= np.repeat(last, [len(part) for part in parts]))
        starts = length * np.arange(len(rows))[:, None]
        found = np.searchsorted(chosen, starts[:, 0])
        if len(chosen) == len(rows) * count and (found == count * np.arange(len(rows))).all():
            return chosen.reshape(-1, count) - starts
    return np.argpartition(rows, count - 1)[:, :count]


def _bounds(sample: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Values between which the largest of the share of smallest ones lies, (R,) and (R, 1), most
    likely, from samples (R, S) of the rows."""
    rank = share * sample.shape[1]
    error = _STANDARD_ERRORS * (rank * (1 - share)) ** 0.5
    ordered = np.sort(sample)
    low, high = ordered.take([int(rank - error), int(rank + error)], axis=1, mode="clip").T
    return low, high[:, None]


def _last(values: np.ndarray, low: float, count: int) -> float:
    """The largest of so many smallest values, if it is at least `low`; NaN if not."""
    doubtful = values.compress(values >= low)
    wanted = count - (len(values) - len(doubtful))
    if not 0 < wanted <= len(doubtful):
        return np.nan
    return np.partition(doubtful, wanted - 1)[wanted - 1]
