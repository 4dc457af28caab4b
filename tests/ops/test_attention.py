"""Attention: agreement with float64 arithmetic spelt out, and which way is taken."""

import pytest
import torch

from mask2former.ops import attention as ops
from mask2former.ops.attention import attention

B, Q, S, C, M = 2, 5, 37, 12, 3


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    tensors = (torch.randn(B, n, C, generator=generator) for n in (Q, S, S))
    attend = torch.rand(B, 1, Q, S, generator=generator) > 0.6
    return *(t.to(dtype) for t in tensors), attend


def spelt_out(query, key, value, attend):
    """Softmax of the scaled products over the keys that may be looked at, head by head."""
    out = []
    for q, k, v in zip(*(x.double().chunk(M, -1) for x in (query, key, value))):
        powers = (q @ k.transpose(1, 2) / (C // M) ** 0.5).exp() * attend[:, 0]
        out.append(powers / powers.sum(-1, keepdim=True) @ v)
    return torch.cat(out, -1)


@pytest.fixture
def ways(monkeypatch):
    """Few keys are many; notes which way is taken."""
    monkeypatch.setattr(ops, "_MANY_KEYS", 8)
    taken = []
    by_head, whole = ops._by_head, ops.F.scaled_dot_product_attention
    monkeypatch.setattr(ops, "_by_head", lambda *args: taken.append("head") or by_head(*args))
    monkeypatch.setattr(
        ops.F,
        "scaled_dot_product_attention",
        lambda *args: taken.append("whole") or whole(*args),
    )
    return taken


# Three digits of bfloat16, of sums of weights that are rounded too.
@pytest.mark.parametrize(
    ("dtype", "way", "tolerance"),
    [(torch.float32, "whole", 1e-6), (torch.bfloat16, "head", 0.02)],
)
@torch.no_grad()
def test_values(ways, dtype, way, tolerance):
    *tensors, attend = inputs(dtype)
    found = attention(*tensors, M, attend)
    assert found.dtype == dtype
    expected = spelt_out(*tensors, attend)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
    assert ways == [way]


@pytest.mark.parametrize("shape", [(1, 1, Q, S), (B, 1, 1, S), (1, 1, 1, S)])
@torch.no_grad()
def test_masks_that_are_shared(ways, shape):
    *tensors, attend = inputs(torch.bfloat16)
    attend = attend[tuple(slice(n) for n in shape)]
    expected = spelt_out(*tensors, attend.expand(B, 1, Q, S))
    found = attention(*tensors, M, attend)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.02)
    assert ways == ["head"]


@torch.no_grad()
def test_inputs_stay(ways):
    tensors = inputs(torch.bfloat16)
    before = [t.clone() for t in tensors]
    attention(*tensors[:3], M, tensors[3])
    assert all(torch.equal(a, b) for a, b in zip(tensors, before))
    assert ways == ["head"]


@pytest.mark.parametrize(
    "change",
    ["gradients", "float32", "few keys", "too many", "dropout", "no mask", "mask by head", "added"],
)
def test_others_are_pytorchs(monkeypatch, ways, change):
    query, key, value, attend = inputs(torch.float32 if change == "float32" else torch.bfloat16)
    if change == "few keys":
        monkeypatch.setattr(ops, "_MANY_KEYS", S + 1)
    if change == "too many":
        monkeypatch.setattr(ops, "_MAX_WEIGHTS", Q * S - 1)
    attend = {
        "no mask": None,
        "mask by head": attend.expand(-1, M, -1, -1),
        "added": attend.to(torch.bfloat16),  # to the products, as PyTorch has it
    }.get(change, attend)
    with torch.set_grad_enabled(change == "gradients"):
        out = attention(query, key, value, M, attend, 0.5 if change == "dropout" else 0.0)
    assert out.shape == (B, Q, C)
    assert ways == ["whole"]


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
@torch.no_grad()
def test_a_trace_is_good_for_any_number_of_images(ways):
    *tensors, attend = inputs(torch.bfloat16)
    traced = torch.jit.trace(
        lambda q, k, v, a: attention(q, k, v, M, a),
        [t[:1] for t in (*tensors, attend)],
        check_trace=False,  # it would be compared with the other way
    )
    expected = spelt_out(*tensors, attend)
    torch.testing.assert_close(traced(*tensors, attend).double(), expected, rtol=0, atol=0.02)
    assert ways == ["whole"]
