"""Choosing numbers near zero: agreement with sorting, equal numbers, bad samples, NaN."""

import pytest
import torch

from mask2former.ops import selection
from mask2former.ops.selection import nearest_to_zero


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
    """So that a thousand numbers go the way of many."""
    monkeypatch.setattr(selection, "_WORTH_NUMPY", 1)
    monkeypatch.setattr(selection, "_SAMPLE", 64)


def select(values, count):
    index = torch.full((*values.shape[:-1], count), -1)
    nearest_to_zero(values, count, index)
    return index


@pytest.mark.parametrize("count", [1, 13, 250, 999, 1000])
def test_agrees_with_sorting(count):
    values = torch.randn(2, 3, 1000, generator=torch.Generator().manual_seed(0))
    expected = values.abs().argsort(-1)[..., :count]
    assert torch.equal(select(values, count).sort(-1).values, expected.sort(-1).values)


def test_the_sample_is_used(monkeypatch):
    """Without it all values would be partitioned."""
    sizes = []
    partition = selection.np.partition
    monkeypatch.setattr(
        selection.np, "partition", lambda x, k: (sizes.append(len(x)), partition(x, k))[1]
    )
    select(torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)), 1000)
    (size,) = sizes
    assert size < 2500


@pytest.mark.parametrize("first", [0.0, 100.0])
def test_a_sample_that_is_not_like_the_rest(first):
    values = torch.rand(1, 1000, generator=torch.Generator().manual_seed(0)) + 1
    values[:, :64] = first
    expected = values.argsort(dim=-1, stable=True)[:, :300].sort(-1).values
    assert torch.equal(select(values, 300).sort(-1).values, expected)


def test_equal_numbers_are_taken_once():
    values = torch.ones(1, 1000)
    values[0, 100:110] = 0.5
    (chosen,) = select(values, 300).tolist()
    assert len(set(chosen)) == 300
    assert set(range(100, 110)) < set(chosen)


def test_nan_come_last():
    values = torch.full((1, 1000), torch.nan)
    values[0, 500:510] = -7.0
    (chosen,) = select(values, 20).tolist()
    assert len(set(chosen)) == 20
    assert set(range(500, 510)) < set(chosen)


def test_writes_to_a_part_of_a_tensor():
    index = torch.full((2, 1, 5), -1)
    nearest_to_zero(torch.tensor([[[3.0, -1.0, 2.0]], [[-4.0, 5.0, 0.0]]]), 2, index[..., :2])
    assert index[..., :2].sort(-1).values.tolist() == [[[1, 2]], [[0, 2]]]
    assert (index[..., 2:] == -1).all()
