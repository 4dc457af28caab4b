"""ReLUs in the pass of what is before them: equal to separate operators, which others get."""

import pytest
import torch
from torch.nn import functional as F

from mask2former.ops import fused_relu as ops
from mask2former.ops import linear
from mask2former.ops.linear import use_linear

TYPES = [torch.float32, torch.bfloat16]


@pytest.fixture
def fused(monkeypatch):
    """Counts separate ReLUs."""
    separate = []
    relu = F.relu
    monkeypatch.setattr(
        ops.F, "relu", lambda *args, **kwargs: separate.append(1) or relu(*args, **kwargs)
    )
    monkeypatch.setattr(ops.F, "relu_", lambda x: separate.append(1) or torch.relu_(x))
    return separate


def tensors(*shapes):
    """Float32 numbers that 16 bits can hold."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator).bfloat16().float() for s in shapes]


def close(found, expected, dtype):
    """Up to the order of sums, and in 16 bits the result's rounding; separate sums round twice,
    numbers of up to 20, of which little may be left."""
    assert found.dtype == dtype
    step = 0 if dtype == torch.float32 else torch.finfo(dtype).eps
    torch.testing.assert_close(found.float(), expected, rtol=1e-5 + step, atol=1e-4 + 10 * step)


def under(dtype):
    return torch.autocast("cpu", dtype, enabled=dtype != torch.float32)


def skip_unless_available(dtype):
    if not linear._is_available(dtype):
        pytest.skip(f"oneDNN does not fuse {dtype} on this processor")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("lead", [(7,), (2, 5), (0,)])
@torch.no_grad()
def test_linear(fused, lead, dtype):
    skip_unless_available(dtype)
    x, weight, bias = tensors((*lead, 16), (24, 16), (24,))
    expected = F.linear(x, weight, bias).clamp(min=0)
    with under(dtype):
        close(ops.linear_relu(x, weight, bias), expected, dtype)
    assert not fused


CONVOLUTIONS = {
    "pointwise": ((8, 6, 1, 1), {}),
    "strided": ((8, 6, 3, 3), {"stride": (2, 2), "padding": (1, 1)}),
    "dilated": ((8, 6, 3, 3), {"padding": (2, 2), "dilation": (2, 2)}),
    "grouped": ((8, 3, 3, 3), {"groups": 2}),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CONVOLUTIONS)
@torch.no_grad()
def test_convolution(fused, name, layout, dtype):
    skip_unless_available(dtype)
    shape, options = CONVOLUTIONS[name]
    x, weight, bias = tensors((2, 6, 9, 11), shape, (8,))
    plain = F.conv2d(x, weight, bias, **options)
    x = x.to(memory_format=layout)
    with under(dtype):
        close(ops.conv2d_relu(x, weight, bias, **options), plain.clamp(min=0), dtype)
        for overwrite in (False, True):
            (add,) = tensors(plain.shape)
            add = add.to(memory_format=layout)
            before, expected = add.clone(), (plain + add).clamp(min=0)
            found = ops.conv2d_relu(x, weight, bias, **options, add=add, overwrite=overwrite)
            close(found, expected, dtype)
            assert torch.equal(add, before) or overwrite
    # Sums are in the pass where channels come last.
    separate = 2 * (layout == torch.contiguous_format or "groups" in options)
    assert len(fused) == separate


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("overwrite", [True, False])
@torch.no_grad()
def test_a_sum_of_maps_in_two_layouts(overwrite, dtype):
    skip_unless_available(dtype)
    x, weight, bias, add = tensors((2, 6, 9, 11), (8, 6, 1, 1), (8,), (2, 8, 9, 11))
    expected = (F.conv2d(x, weight, bias) + add).clamp(min=0)
    x, add = x.contiguous(memory_format=torch.channels_last), add.to(dtype)
    with under(dtype):
        close(ops.conv2d_relu(x, weight, bias, add=add, overwrite=overwrite), expected, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@torch.no_grad()
def test_maps_of_one_pixel(dtype):
    """Channels are first and last at once."""
    skip_unless_available(dtype)
    x, weight, bias, add = tensors((2, 6, 1, 1), (8, 6, 1, 1), (8,), (2, 8, 1, 1))
    expected = (F.conv2d(x, weight, bias) + add).clamp(min=0)
    for layout in (torch.contiguous_format, torch.channels_last):
        with under(dtype):
            found = ops.conv2d_relu(x.to(memory_format=layout), weight, bias, add=add)
        close(found, expected, dtype)


@torch.no_grad()
def test_what_may_be_overwritten_becomes_the_result():
    skip_unless_available(torch.float32)
    x, weight, bias, add = tensors((1, 4, 5, 5), (8, 4, 1, 1), (8,), (1, 8, 5, 5))
    x, add = (t.contiguous(memory_format=torch.channels_last) for t in (x, add))
    found = ops.conv2d_relu(x, weight, bias, add=add, overwrite=True)
    assert found.data_ptr() == add.data_ptr()


def test_gradients(fused):
    """Of separate operators, as the fused ones have none."""
    inputs = [t.requires_grad_() for t in tensors((1, 4, 5, 5), (8, 4, 3, 3), (8,), (1, 8, 3, 3))]
    x, weight, bias, add = inputs
    found = ops.conv2d_relu(x, weight, bias, add=add * 1, overwrite=True)
    expected = F.conv2d(x, weight, bias).add(add).clamp(min=0)
    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (found, expected))):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    inputs = [t.requires_grad_() for t in tensors((7, 16), (24, 16), (24,))]
    both = ops.linear_relu(*inputs), F.linear(*inputs).clamp(min=0)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in both)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert len(fused) == 2


@torch.no_grad()
def test_separate_operators_where_pytorchs_are_asked_for(fused):
    """The counter of multiply-adds knows these alone."""
    x, weight, bias = tensors((1, 4, 5, 5), (8, 4, 1, 1), (8,))
    expected = F.conv2d(x, weight, bias).clamp(min=0)
    with use_linear("pytorch"):
        torch.testing.assert_close(ops.conv2d_relu(x, weight, bias), expected)
        rows = ops.linear_relu(x[0].flatten(1).T, weight[..., 0, 0], bias)
    torch.testing.assert_close(rows, expected[0].flatten(1).T)
    assert len(fused) == 2


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_compilers_see_pytorchs_operators():
    class Both(torch.nn.Module):
        def forward(self, x, weight, bias):
            maps = ops.conv2d_relu(x, weight, bias)
            return ops.linear_relu(maps.flatten(2).transpose(1, 2), weight[..., 0, 0].T, bias[:4])

    inputs = tuple(tensors((1, 4, 5, 5), (8, 4, 1, 1), (8,)))
    for recorded in (
        torch.export.export(Both(), inputs).graph,
        torch.jit.trace(Both(), inputs).graph,
    ):
        assert "mkldnn" not in str(recorded)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@torch.no_grad()
def test_other_types(fused, dtype):
    x, weight, bias = (t.to(dtype) for t in tensors((1, 4, 5, 5), (8, 4, 1, 1), (8,)))
    found = ops.conv2d_relu(x, weight, bias)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias).clamp(min=0))
    assert fused
