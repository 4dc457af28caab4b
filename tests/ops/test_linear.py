"""Linear maps by oneDNN: equal to PyTorch's, with their gradients, and left alone elsewhere."""

import pytest
import torch
from torch.nn import functional as F

from mask2former.ops import linear as ops

SIZE = 128  # of products that are worth it


@pytest.fixture(autouse=True)
def onednn(monkeypatch):
    """oneDNN whatever the processor; counts its products."""
    if not ops._is_available(torch.float32):
        pytest.skip("this PyTorch has no oneDNN")
    calls = []
    product = ops._product
    monkeypatch.setattr(ops, "_product", lambda *args: calls.append(1) or product(*args))
    with ops.use_linear("onednn"):
        yield calls


def tensors(*shapes, grad=False):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator).requires_grad_(grad) for s in shapes]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(SIZE,), (3, SIZE), (2, 3, SIZE)])
def test_values_and_gradients_of_a_linear_map(onednn, lead, bias):
    inputs = tensors((*lead, SIZE), (96, SIZE), (96,), grad=True)[: 2 + bias]
    results = []
    for function in (F.linear, ops.linear):
        out = function(*inputs)
        grads = torch.autograd.grad(out.square().sum(), inputs)
        results.append((out, *grads))
    assert len(onednn) == 3
    for expected, found in zip(*results):
        # Sums of up to 768 terms in another order.
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
def test_values_and_gradients_of_a_pointwise_convolution(onednn, stride):
    x, weight, bias = tensors((2, SIZE, 23, 31), (48, SIZE, 1, 1), (48,), grad=True)
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    results = []
    for function in (F.conv2d, ops.conv2d):
        out = function(x, weight, bias, (stride, stride))
        grads = torch.autograd.grad(out.square().sum(), (x, weight, bias))
        results.append((out, *grads))
    assert len(onednn) == 3
    for expected, found in zip(*results):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-3)
    assert results[1][0].is_contiguous(memory_format=torch.channels_last)


def test_a_result_that_is_changed_in_place_is_no_view(onednn):
    x, weight, shortcut = tensors((2, SIZE, 23, 31), (48, SIZE, 1, 1), (2, 48, 23, 31), grad=True)
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    out = ops.conv2d(x, weight)
    assert not out._is_view()
    out += shortcut
    found = torch.autograd.grad(F.relu_(out).square().sum(), (x, weight, shortcut))
    plain = F.relu(F.conv2d(x, weight) + shortcut)
    expected = torch.autograd.grad(plain.square().sum(), (x, weight, shortcut))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-3)


def test_gradients_of_more_outputs_than_inputs(onednn):
    inputs = tensors((2 * SIZE, 80), (SIZE, 80), grad=True)
    found = torch.autograd.grad(ops.linear(*inputs).square().sum(), inputs)
    expected = torch.autograd.grad(F.linear(*inputs).square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert len(onednn) == 3


def test_frozen_weights_have_no_gradient(onednn):
    x, weight = tensors((SIZE, SIZE), (SIZE, SIZE))
    ops.linear(x.requires_grad_(), weight).sum().backward()
    assert x.grad is not None
    assert weight.grad is None
    assert len(onednn) == 2  # forward, and the gradient of x alone


@pytest.mark.parametrize("threads", [1, 3])
def test_strided_convolution_of_few_channels(threads):
    """PyTorch 2.14's own ends the process here, in most of ten runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(10):
            x, weight = tensors((2, 3, 64, 96), (8, 3, 1, 1), grad=True)
            last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
            out = ops.conv2d(last, weight, None, (4, 4))
            found = torch.autograd.grad(out.square().sum(), (last, weight))
            exact = F.conv2d(x.double(), weight.double(), stride=4)
            expected = torch.autograd.grad(exact.square().sum(), (x, weight))
            torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("x", "weight", "options"),
    [
        ((2, SIZE, 23, 31), (48, SIZE, 1, 1), {}),  # channels first
        ((2, SIZE, 23, 31), (48, SIZE, 3, 3), {"padding": (1, 1)}),
        ((2, SIZE, 23, 31), (48, SIZE, 1, 1), {"padding": (1, 1)}),
        ((2, SIZE, 23, 31), (SIZE, 1, 1, 1), {"groups": SIZE}),
    ],
)
def test_other_convolutions_are_pytorchs(onednn, x, weight, options):
    x, weight = tensors(x, weight)
    if options:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x, weight, None, **options)
    torch.testing.assert_close(ops.conv2d(x, weight, None, **options), expected)
    assert not onednn


def test_small_maps_other_types_and_autocast_are_pytorchs(onednn):
    x, weight = tensors((SIZE, SIZE), (SIZE, SIZE))
    ops.linear(x[:2], weight)
    assert ops.linear(x.double(), weight.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.linear(x, weight).dtype == torch.bfloat16
    with ops.use_linear("pytorch"):
        ops.linear(x, weight)
    assert not onednn


@pytest.mark.parametrize("autocast", [True, False])
@torch.no_grad()
def test_sixteen_bits_without_gradients(onednn, autocast):
    """The type of autocast, or of the tensors; results are near those of float32."""
    if not ops._is_available(torch.bfloat16):
        pytest.skip("oneDNN does not know bfloat16 on this processor")
    onednn.clear()
    x, weight, bias = (t.bfloat16() for t in tensors((3, SIZE, SIZE), (96, SIZE), (96,)))
    maps = x.movedim(2, 1)[..., None].contiguous(memory_format=torch.channels_last)
    expected = F.linear(x.float(), weight.float(), bias.float())
    if autocast:
        maps, weight, bias = maps.float(), weight.float(), bias.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        of_rows = ops.linear(x, weight, bias)
        of_maps = ops.conv2d(maps, weight[..., None, None], bias)[..., 0].movedim(1, 2)
    assert len(onednn) == 2
    for found in (of_rows, of_maps):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-3)


def test_sixteen_bits_with_gradients_are_pytorchs(onednn):
    x, weight = tensors((SIZE, SIZE), (SIZE, SIZE), grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ops.linear(x, weight).sum().backward()
        with torch.no_grad():
            assert ops.linear(x.double(), weight.double()).dtype == torch.float64
    assert weight.grad is not None
    assert not onednn


@torch.no_grad()
def test_float16_is_pytorchs(onednn):
    x, weight = tensors((SIZE, SIZE), (SIZE, SIZE))
    with torch.autocast("cpu", torch.float16):
        assert ops.linear(x, weight).dtype == torch.float16
    assert not onednn


def test_compilers_see_pytorchs_operator(onednn):
    class Map(torch.nn.Module):
        def forward(self, x, weight):
            return ops.linear(x, weight)

    exported = torch.export.export(Map(), tuple(tensors((SIZE, SIZE), (SIZE, SIZE))))
    names = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert names == {"aten.linear.default"}


@pytest.mark.parametrize(
    ("capability", "intel", "gradients", "expected"),
    [
        ("AVX512", False, True, True),
        ("AVX512", False, False, True),
        ("AVX512", True, True, False),
        ("AVX512", True, False, True),
        ("AVX2", False, True, False),
        ("AVX2", False, False, True),
        ("AVX2", True, True, False),
        ("AVX2", True, False, True),
        ("DEFAULT", False, False, False),
    ],
)
def test_the_choice(monkeypatch, capability, intel, gradients, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(ops, "_made_by_intel", lambda: intel)
    assert ops._is_preferred.__wrapped__(gradients) is expected


@pytest.mark.parametrize("name", ["_linear_pointwise", "_convolution_pointwise_"])
def test_without_an_operator(monkeypatch, caplog, name):
    def fail(*args):
        raise AttributeError("no such operator")

    monkeypatch.setattr(torch.ops.mkldnn, name, fail)
    assert ops._is_available.__wrapped__(torch.float32) is False
    assert "oneDNN's operators are unavailable" in caplog.text


def test_an_operator_with_other_arguments(monkeypatch):
    monkeypatch.setattr(ops, "ADD_RELU", ())
    assert ops._is_available.__wrapped__(torch.float32) is False


def test_the_default_device_does_not_matter():
    with torch.device("meta"):
        assert ops._is_available.__wrapped__(torch.float32)


def test_unknown_name():
    message = r"use_linear: expected one of auto, onednn, pytorch, got 'mkl'"
    with pytest.raises(ValueError, match=message), ops.use_linear("mkl"):
        pass


def test_export_with_any_number_of_rows():
    """Sizes are not compared where PyTorch's operator is taken anyway."""

    class Map(torch.nn.Module):
        def forward(self, x, weight):
            return ops.linear(x, weight)

    rows = {"x": {0: torch.export.Dim("rows", min=2)}, "weight": None}
    inputs = tuple(tensors((SIZE, SIZE), (SIZE, SIZE)))
    exported = torch.export.export(Map(), inputs, dynamic_shapes=rows)
    assert exported.module()(inputs[0][:3], inputs[1]).shape == (3, SIZE)


def test_pytorchs_own_switch(onednn):
    with torch.backends.mkldnn.flags(enabled=False):
        ops.linear(*tensors((SIZE, SIZE), (SIZE, SIZE)))
    assert not onednn


def test_a_processor_without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert ops._is_available.__wrapped__(torch.bfloat16) is False
