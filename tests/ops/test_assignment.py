"""Assignment: brute force, edges, costs that are not finite."""

import itertools
import logging

import pytest
import torch

from mask2former.ops.assignment import assign


def brute_force(cost):
    """Least total cost over all ways to give columns distinct rows."""
    rows, columns = cost.shape
    if columns <= rows:
        ways = itertools.permutations(range(rows), columns)
        return min(sum(cost[r, c].item() for c, r in enumerate(way)) for way in ways)
    return brute_force(cost.T)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (1, 1), (6, 1)])
def test_least_total_cost(shape):
    costs = [torch.rand(shape, generator=torch.Generator().manual_seed(s)) for s in range(4)]
    for cost, (rows, columns) in zip(costs, assign(costs)):
        assert rows.dtype == columns.dtype == torch.int64
        assert len(set(rows.tolist())) == len(set(columns.tolist())) == min(shape)
        assert cost[rows, columns].sum().item() == pytest.approx(brute_force(cost), abs=1e-6)


def test_no_target_gives_no_pair():
    ((rows, columns),) = assign([torch.zeros(5, 0)])
    assert len(rows) == len(columns) == 0
    assert assign([]) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_costs_that_are_not_finite_lose_with_a_warning(bad, caplog):
    cost = torch.tensor([[bad, 2.0], [1.0, bad], [5.0, 5.0]])
    with caplog.at_level(logging.WARNING):
        ((rows, columns),) = assign([cost])
    assert dict(zip(columns.tolist(), rows.tolist())) == {0: 1, 1: 0}
    assert "2 of 6 matching costs are not finite" in caplog.text
