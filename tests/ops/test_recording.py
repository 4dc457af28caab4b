"""Who counts as looking on: compilers, exporters and tracers, and nobody else."""

import pytest
import torch

from mask2former.ops.recording import is_recorded


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
