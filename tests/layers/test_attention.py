"""Attention against torch's own module: outputs, weights, hooks on layers."""

import pytest
import torch
from torch import nn

from mask2former.layers import (
    CrossAttentionLayer,
    MultiheadAttention,
    SelfAttentionLayer,
    TransformerDecoder,
)

B, Q, S, C, M = 2, 3, 5, 8, 2


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def oracle_pair():
    """Our module and torch's, with the same weights."""
    torch.manual_seed(0)
    ours, oracle = MultiheadAttention(C, M), nn.MultiheadAttention(C, M, batch_first=True)
    ours.in_proj_bias.data.normal_()
    oracle.load_state_dict(ours.state_dict())  # the names are the same, too
    return ours.eval(), oracle.eval()


def test_agrees_with_torch(oracle_pair):
    ours, oracle = oracle_pair
    query, key, value = rand(B, Q, C), rand(B, S, C, seed=1), rand(B, S, C, seed=2)
    attend = rand(B, 1, Q, S, seed=3) > -0.5
    attend[..., 0] = True  # a row that attends to nothing has no defined result
    blocked = ~attend.expand(-1, M, -1, -1).flatten(0, 1)
    for average in (True, False):
        options = {"average_attn_weights": average}
        expected = oracle(query, key, value, attn_mask=blocked, **options)
        torch.testing.assert_close(ours(query, key, value, attend, **options), expected)
        torch.testing.assert_close(
            ours(query, key, value, **options), oracle(query, key, value, **options)
        )
    out, weights = ours(query, key, value, attend, need_weights=False)
    torch.testing.assert_close(out, oracle(query, key, value, attn_mask=blocked)[0])
    assert weights is None


def test_weights_are_dropped_in_training_alone():
    layer = MultiheadAttention(C, M, dropout=0.5)
    inputs = rand(B, Q, C), rand(B, S, C, seed=1), rand(B, S, C, seed=2)
    assert not torch.equal(layer.train()(*inputs)[0], layer(*inputs)[0])
    assert torch.equal(layer.eval()(*inputs)[0], layer(*inputs)[0])


def test_width_must_split_into_heads():
    with pytest.raises(ValueError, match="10 channels do not split into 4 heads"):
        MultiheadAttention(10, 4)


def calls_of(attention, run, monkeypatch):
    """Run without and with a forward hook on an attention module, and return what the hook got."""
    seen, needed = [], []
    forward = MultiheadAttention.forward
    monkeypatch.setattr(
        MultiheadAttention,
        "forward",
        lambda *args, **kw: needed.append(kw["need_weights"]) or forward(*args, **kw),
    )
    before = run()
    assert not any(needed)  # nobody looks, so nothing is computed for it
    handle = attention.register_forward_hook(lambda module, args, output: seen.append(output))
    torch.testing.assert_close(run(), before)
    handle.remove()
    run()
    assert len(seen) == 1
    return seen[0]


def test_hooks_get_output_and_weights_as_those_of_torch(monkeypatch):
    torch.manual_seed(0)
    layer = CrossAttentionLayer(C, M).eval()
    x, position, key, value = rand(B, Q, C), rand(1, Q, C), rand(B, S, C), rand(B, S, C, seed=2)
    attend = torch.tensor([True, True, False, True, False]).expand(B, 1, Q, S)
    out, weights = calls_of(
        layer.multihead_attn, lambda: layer(x, position, key, value, attend), monkeypatch
    )
    assert (out.shape, weights.shape) == ((B, Q, C), (B, Q, S))
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, Q))
    assert (weights[..., [2, 4]] == 0).all() and (weights[..., [0, 1, 3]] > 0).all()


def test_hooks_of_all_layers(monkeypatch):
    torch.manual_seed(0)
    x, position, memory = rand(B, Q, C), rand(1, Q, C), rand(B, S, C)
    alone = SelfAttentionLayer(C, M).eval()
    _, weights = calls_of(alone.self_attn, lambda: alone(x, position), monkeypatch)
    assert weights.shape == (B, Q, Q)
    stack = TransformerDecoder(1, C, M, 16).eval()
    for name, keys in (("self_attn", Q), ("multihead_attn", S)):
        attention = getattr(stack.layers[0], name)
        _, weights = calls_of(attention, lambda: stack(x, position, memory, memory), monkeypatch)
        assert weights.shape == (B, Q, keys)


def test_a_hook_may_change_the_output():
    layer = SelfAttentionLayer(C, M).eval()
    layer.self_attn.register_forward_hook(lambda module, args, output: (output[0] * 0, output[1]))
    x = rand(B, Q, C)
    torch.testing.assert_close(layer(x, x), nn.functional.layer_norm(x, (C,)))
