"""Large tensors: like any other, on Linux with advice, elsewhere without."""

import pytest
import torch

from mask2former.ops import memory


def test_small_ones_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_advise", lambda: pytest.fail("called"))
    tensor = memory.empty_large(3, 5, dtype=torch.bool)
    assert tensor.shape == (3, 5)
    assert tensor.dtype == torch.bool


def test_advice_covers_whole_pages_inside(monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "_advise", lambda: lambda *args: calls.append(args))
    tensor = memory.empty_large(5, 2**20)
    ((start, length, advice),) = calls
    page = 2 * 2**20
    assert start % page == length % page == 0
    assert 0 <= start - tensor.data_ptr() < page
    assert 0 <= tensor.data_ptr() + tensor.nbytes - (start + length) < page
    assert advice == 14


def test_it_can_be_written():
    tensor = memory.empty_large(5, 2**20)
    tensor.fill_(1)
    assert tensor.sum().item() == 5 * 2**20


def test_other_systems(monkeypatch):
    memory._advise.cache_clear()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.empty_large(5, 2**20).shape == (5, 2**20)
    memory._advise.cache_clear()
