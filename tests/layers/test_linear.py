"""Results of linear layers without calling them: as if they were called, and only where nobody
would miss the call."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from mask2former.layers import MLP, DeformableEncoder, MultiheadAttention, SwinBlock
from mask2former.layers import linear as layers
from mask2former.ops.linear import use_linear


@pytest.fixture
def computed(monkeypatch):
    """Counts the layers that are computed without a call."""
    calls = []
    for name in ("linear", "linear_relu"):
        operator = getattr(layers, name)
        monkeypatch.setattr(layers, name, lambda *args, _op=operator: calls.append(1) or _op(*args))
    return calls


def tensor(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_agrees_with_the_call(computed, bias, gradients):
    layer, x = nn.Linear(6, 9, bias=bias), tensor(2, 4, 6)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(layers.linear_of(layer, x), layer(x))
        torch.testing.assert_close(layers.relu_of(layer, x), layer(x).clamp(min=0))
    assert len(computed) == 2


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def own_class(layer):
    layer.__class__ = type("Own", (nn.Linear,), {"forward": lambda self, x: x + 1})


def own_forward(layer):
    layer.forward = lambda x: x + 1


CHANGES = {
    "hook": lambda layer: layer.register_forward_hook(lambda *args: args[-1] + 1),
    "pre-hook": lambda layer: layer.register_forward_pre_hook(lambda layer, args: args[0] + 1),
    "backward hook": lambda layer: layer.register_full_backward_hook(lambda *args: None),
    "backward pre-hook": lambda layer: layer.register_full_backward_pre_hook(lambda *args: None),
    "parametrized": lambda layer: parametrize.register_parametrization(layer, "weight", Doubled()),
    "subclass": own_class,
    "forward of its own": own_forward,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("function", ["linear_of", "relu_of"])
def test_a_layer_that_does_more_is_called(computed, change, function):
    layer, x = nn.Linear(6, 6), tensor(4, 6)
    CHANGES[change](layer)
    expected = layer(x) if function == "linear_of" else layer(x).clamp(min=0)
    assert torch.equal(getattr(layers, function)(layer, x), expected)
    assert not computed


def test_global_hooks_see_the_call(computed):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda *args: seen.append(1))
    try:
        layers.linear_of(nn.Linear(6, 9), tensor(4, 6))
    finally:
        handle.remove()
    assert seen
    assert not computed


def test_counters_see_the_call(computed):
    """They know PyTorch's operators."""
    with use_linear("pytorch"):
        layers.linear_of(nn.Linear(6, 9), tensor(4, 6))
    assert not computed


def test_layers_in_a_row(computed):
    layers_in_a_row = layers.LinearSequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 2))
    x = tensor(4, 6)
    torch.testing.assert_close(layers_in_a_row(x), nn.Sequential(*layers_in_a_row)(x))
    assert len(computed) == 2


class Encoder(nn.Module):
    """All that is built from linear layers here, on the tokens of one level."""

    def __init__(self):
        super().__init__()
        options = {"dropout": 0.0, "num_levels": 1, "num_heads": 2, "num_points": 2}
        self.encoder = DeformableEncoder(1, dim=8, ffn_dim=16, **options)
        self.attention = MultiheadAttention(8, 2)
        self.block = SwinBlock(8, 2, shift=1, num_heads=2)
        self.mlp = MLP(8, 16, 5, 3)

    def forward(self, x):
        x = self.encoder(x, x.new_zeros(12, 8), [(3, 4)])
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.mlp(self.block(x.unflatten(1, (3, 4))))


def make_encoder():
    torch.manual_seed(0)
    return Encoder().eval()


@torch.no_grad()
def test_a_copy_has_its_own_weights(computed):
    model, x = make_encoder(), tensor(2, 12, 8)
    before = model(x)
    clone = copy.deepcopy(model)
    for parameter in clone.parameters():
        parameter.zero_()
    assert not clone(x).any()
    assert torch.equal(model(x), before)
    clone.load_state_dict(model.state_dict())
    assert torch.equal(clone(x), before)
    assert computed


@torch.no_grad()
def test_survives_pickle():
    model, x = make_encoder(), tensor(2, 12, 8)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)  # made above
    assert torch.equal(loaded(x), model(x))


@torch.no_grad()
def test_other_types():
    model, x = make_encoder(), tensor(2, 12, 8)
    expected = model(x)
    for dtype in (torch.float16, torch.bfloat16):
        got = copy.deepcopy(model).to(dtype)(x.to(dtype))
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_recorded_models_call_their_layers(computed):
    model, x = make_encoder(), tensor(2, 12, 8)
    expected = model(x)
    computed.clear()
    torch.testing.assert_close(torch.jit.trace(model, x, check_trace=False)(x), expected)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    assert not computed


@pytest.mark.filterwarnings("ignore:.*deprecated")
@torch.no_grad()
def test_every_linear_layer_can_be_quantized():
    """Each is replaced, and its replacement, which has no weight to read, is called."""
    model, x = make_encoder(), tensor(2, 12, 8)
    count = sum(type(part) is nn.Linear for part in model.modules())
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    kind = torch.ao.nn.quantized.dynamic.Linear
    assert sum(type(part) is kind for part in quantized.modules()) == count == 14
    got, expected = quantized(x), model(x)
    assert not torch.equal(got, expected)
    torch.testing.assert_close(got, expected, rtol=0.1, atol=0.1)


def test_mlp_has_relu_between_layers_but_not_after_the_last():
    mlp = MLP(1, 2, 1, 2)
    with torch.no_grad():
        mlp.layers[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        mlp.layers[0].bias.zero_()
        mlp.layers[1].weight.copy_(torch.tensor([[-2.0, -3.0]]))
        mlp.layers[1].bias.fill_(1.0)
    out = mlp(torch.tensor([[4.0], [-4.0]]))
    assert out.flatten().tolist() == [-7.0, -11.0]
