"""Minimum-cost assignment for the few objects of a frame, without SciPy."""

import numpy as np

_FORBIDDEN = 1e6  # worse than any real cost, small enough to be added up


def assign(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of rows and columns whose total cost is lowest.

    The Hungarian method with potentials (Jonker and Volgenant 1987): one shortest augmenting path a
    row, O(n^2 m).

    Args:
        costs: (n, m); what is not finite counts as very large.

    Returns:
        rows, ascending, and their columns: two int64 arrays of min(n, m) entries.
    """
    if costs.shape[0] > costs.shape[1]:
        columns, rows = assign(costs.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    costs = np.where(np.isfinite(costs), costs, _FORBIDDEN).astype(np.float64)
    count, width = costs.shape
    free = width  # stands for the column from which a path starts
    row_of = np.full(width + 1, -1)
    row_prices, column_prices = np.zeros(count), np.zeros(width + 1)
    for row in range(count):
        row_of[free], column = row, free
        distances, before = np.full(width, np.inf), np.full(width, free)
        seen = np.zeros(width + 1, bool)
        while row_of[column] >= 0:
            seen[column] = True
            i = row_of[column]
            steps = costs[i] - row_prices[i] - column_prices[:width]
            shorter = ~seen[:width] & (steps < distances)
            distances[shorter], before[shorter] = steps[shorter], column
            open_distances = np.where(seen[:width], np.inf, distances)
            column = int(open_distances.argmin())
            step = open_distances[column]
            row_prices[row_of[seen]] += step
            column_prices[seen] -= step
            distances -= step
        while column != free:
            row_of[column] = row_of[before[column]]
            column = before[column]
    columns = np.flatnonzero(row_of[:width] >= 0)
    order = np.argsort(row_of[columns])
    return row_of[columns][order], columns[order]
