"""Assignment, with SciPy as the oracle."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from mask2former.tracks.assignment import assign


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 3), (2, 9), (9, 2), (20, 60), (60, 20), (0, 4), (4, 0)]
)
@pytest.mark.parametrize("kind", ["any", "ties", "negative"])
def test_total_is_that_of_scipy(shape, kind):
    rng = np.random.default_rng(sum(shape))
    costs = {
        "any": rng.random(shape),
        "ties": rng.integers(0, 3, shape).astype(float),
        "negative": np.where(rng.random(shape) < 0.7, 1.0, -rng.random(shape)),
    }[kind]
    rows, columns = assign(costs)
    assert len(rows) == len(columns) == min(shape)
    assert (np.diff(rows) > 0).all()
    assert len(set(columns.tolist())) == len(columns)
    expected = costs[linear_sum_assignment(costs)].sum()
    assert costs[rows, columns].sum() == pytest.approx(expected, abs=1e-9)
    if kind == "any":  # no two assignments have one total
        np.testing.assert_array_equal(columns, linear_sum_assignment(costs)[1])


def test_costs_that_are_not_finite_are_taken_last():
    costs = np.array([[np.nan, 3.0], [1.0, np.inf]])
    assert [x.tolist() for x in assign(costs)] == [[0, 1], [1, 0]]
    assert assign(np.full((2, 2), np.nan))[0].tolist() == [0, 1]
