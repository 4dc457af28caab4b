"""Layers whose linear maps go another way: same results and names, and no others are touched."""

import copy

import pytest
import torch
from torch import nn

from mask2former.layers import linear as layers
from mask2former.layers import speed_up_linear_maps
from mask2former.ops import fused_relu
from mask2former.ops.linear import use_linear


def network():
    class Own(nn.Linear):
        pass

    parts = [nn.Conv2d(16, 32, 1, stride=2), nn.Conv2d(32, 8, 3), nn.Flatten(2)]
    return nn.Sequential(*parts, nn.Linear(45, 64), Own(64, 7))


def test_names_and_results_stay():
    plain = network()
    fast = speed_up_linear_maps(copy.deepcopy(plain))
    assert list(fast.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 16, 14, 22, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fast(x), plain(x))


def test_only_pytorchs_own_layers_are_changed():
    conv, other, _, linear, own = speed_up_linear_maps(network())
    assert type(conv) is layers.PointwiseConv2d
    assert type(other) is nn.Conv2d
    assert type(linear) is layers.Linear
    assert type(own).__name__ == "Own"


def test_they_use_the_operators(monkeypatch):
    monkeypatch.setattr(layers, "linear", lambda *args: pytest.fail("linear"))
    with pytest.raises(pytest.fail.Exception, match="linear"):
        speed_up_linear_maps(nn.Linear(3, 4))(torch.ones(2, 3))
    monkeypatch.setattr(layers, "conv2d", lambda *args: pytest.fail("conv2d"))
    with pytest.raises(pytest.fail.Exception, match="conv2d"):
        speed_up_linear_maps(nn.Conv2d(3, 4, 1))(torch.ones(2, 3, 5, 5))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fast", [True, False])
@torch.no_grad()
def test_relu_of_a_layer(monkeypatch, fast, bias):
    """In one pass for layers that are known to be no more than a linear map with a bias."""
    calls = []
    monkeypatch.setattr(
        layers, "linear_relu", lambda *args: calls.append(1) or fused_relu.linear_relu(*args)
    )
    layer = nn.Linear(6, 9, bias=bias)
    layer = speed_up_linear_maps(layer) if fast else layer
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layers.relu_of(layer, x), layer(x).clamp(min=0))
    assert len(calls) == (fast and bias)


@pytest.mark.parametrize("who", ["hook", "pre-hook", "global hook", "gradients", "pytorch"])
def test_a_layer_that_is_watched_is_called(monkeypatch, who):
    """Hooks, as of pruning, may change what it computes; counters know PyTorch's operators."""
    monkeypatch.setattr(layers, "linear_relu", lambda *args: pytest.fail("not called"))
    layer, x = speed_up_linear_maps(nn.Linear(6, 9)), torch.randn(4, 6)
    calls = []
    add = {
        "hook": layer.register_forward_hook,
        "pre-hook": layer.register_forward_pre_hook,
        "global hook": nn.modules.module.register_module_forward_hook,
    }.get(who)
    handle = add(lambda *args: calls.append(1)) if add else None
    try:
        choice = use_linear("pytorch" if who == "pytorch" else "auto")
        with torch.set_grad_enabled(who == "gradients"), choice:
            out = layers.relu_of(layer, x)
    finally:
        if handle:
            handle.remove()
    torch.testing.assert_close(out, torch.addmm(layer.bias, x, layer.weight.T).clamp(min=0))
    assert len(calls) == (add is not None)
