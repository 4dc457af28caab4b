"""Who counts as looking on: compilers, exporters and tracers, and nobody else."""

import pytest
import torch

from mask2former.ops import recording
from mask2former.ops.recording import integers, is_recorded


class Told(torch.nn.Module):
    """Adds one where it is recorded."""

    def forward(self, x):
        return x + 1 if is_recorded() else x


def test_eager():
    assert not is_recorded()
    assert Told()(torch.zeros(())) == 0


def test_compiled_and_exported():
    x = torch.zeros(())
    assert torch.compile(Told(), backend="eager")(x) == 1
    assert torch.export.export(Told(), (x,)).module()(x) == 1


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
def test_traced():
    x = torch.zeros(())
    assert torch.jit.trace(Told(), (x,), check_trace=False)(x) == 1


def test_integers():
    assert integers([3, -1]).tolist() == [3, -1]
    assert integers([3, -1]).dtype == torch.int64


def test_another_device_gets_the_same_numbers_once():
    """The device without memory stands in for a GPU."""
    device = torch.device("meta")
    recording._sent.cache_clear()
    first, second = integers((5, 8), device), integers([5, 8], device)
    assert first.device == device and first is not second  # either may be changed in place
    assert recording._sent.cache_info().misses == 1
