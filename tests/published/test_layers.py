"""Transformer layers with the published calls: masks, padding, activations, against ours."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mask2former import layers as ours
from mask2former.published.layers import (
    CrossAttentionLayer,
    FFNLayer,
    SelfAttentionLayer,
    get_activation_fn,
    get_clones,
)

C, Q, S, B, M = 8, 3, 6, 2, 2


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def batch_first(*x):
    return [t.transpose(0, 1) for t in x]


@pytest.mark.parametrize("before", [True, False])
def test_self_attention_agrees_with_ours(before):
    layer = SelfAttentionLayer(C, M, 0.0, "relu", before)
    own = ours.SelfAttentionLayer(C, M, pre_norm=before)
    own.load_state_dict(layer.state_dict())
    x, position = tensors((Q, B, C), (Q, B, C))
    expected = own(*batch_first(x, position)).transpose(0, 1)
    torch.testing.assert_close(layer(x, query_pos=position), expected)
    assert list(layer.state_dict()) == list(own.state_dict())
    assert layer.normalize_before is before


@pytest.mark.parametrize("before", [True, False])
def test_cross_attention_agrees_with_ours(before):
    layer = CrossAttentionLayer(C, M, 0.0, "relu", before)
    own = ours.CrossAttentionLayer(C, M, pre_norm=before)
    own.load_state_dict(layer.state_dict())
    x, query_pos, memory, pos = tensors((Q, B, C), (Q, B, C), (S, B, C), (S, B, C))
    blocked = torch.rand(B, Q, S, generator=torch.Generator().manual_seed(1)) < 0.4
    args = batch_first(x, query_pos, memory + pos, memory)
    expected = own(*args, ~blocked[:, None]).transpose(0, 1)
    got = layer(
        x,
        memory,
        memory_mask=blocked.repeat_interleave(M, 0),
        memory_key_padding_mask=None,
        pos=pos,
        query_pos=query_pos,
    )
    torch.testing.assert_close(got, expected)


def test_padding_is_not_looked_at():
    layer = CrossAttentionLayer(C, M)
    x, memory = tensors((Q, B, C), (S, B, C))
    padding = torch.zeros(B, S, dtype=torch.bool)
    padding[:, 4:] = True
    torch.testing.assert_close(
        layer(x, memory, memory_key_padding_mask=padding), layer(x, memory[:4])
    )
    layer = SelfAttentionLayer(C, M)
    nobody = torch.tensor([[False, False, True]] * B)
    torch.testing.assert_close(layer(x, tgt_key_padding_mask=nobody)[:2], layer(x[:2]))
    itself = ~torch.eye(Q, dtype=torch.bool)
    torch.testing.assert_close(layer(x, tgt_mask=itself)[:1], layer(x[:1]))


@pytest.mark.parametrize(("name", "function"), [("relu", F.relu), ("gelu", F.gelu)])
def test_feed_forward_by_hand(name, function):
    layer = FFNLayer(C, 16, activation=name)
    (x,) = tensors((Q, B, C))
    expected = layer.norm(x + layer.linear2(function(layer.linear1(x))))
    torch.testing.assert_close(layer(x), expected)
    before = FFNLayer(C, 16, 0.0, name, True)
    expected = x + before.linear2(function(before.linear1(before.norm(x))))
    torch.testing.assert_close(before(x), expected)


def test_gated_activation():
    layer = FFNLayer(C, 16, activation="glu")
    (x,) = tensors((Q, B, C))
    assert layer(x).shape == x.shape


def test_an_override_of_one_order_takes_effect():
    class Doubled(SelfAttentionLayer):
        def forward_post(self, tgt, tgt_mask=None, tgt_key_padding_mask=None, query_pos=None):
            return 2 * super().forward_post(tgt, tgt_mask, tgt_key_padding_mask, query_pos)

    torch.manual_seed(0)
    layer = Doubled(C, M)
    x, position = tensors((Q, B, C), (Q, B, C))
    expected = SelfAttentionLayer.forward_post(layer, x, None, None, position)
    torch.testing.assert_close(layer(x, query_pos=position), 2 * expected)
    layer.normalize_before = True
    assert not torch.allclose(layer(x, query_pos=position), 2 * expected)


def test_dropout_is_on_while_training_alone():
    for layer in (SelfAttentionLayer(C, M, 0.5), FFNLayer(C, 16, 0.5)):
        (x,) = tensors((Q, B, C))
        assert not torch.allclose(layer(x), layer(x))
        layer.eval()
        torch.testing.assert_close(layer(x), layer(x))


def test_weights_for_hooks_alone():
    layer = SelfAttentionLayer(C, M)
    assert isinstance(layer.self_attn, nn.MultiheadAttention)
    (x,) = tensors((Q, B, C))
    seen = []
    layer.self_attn.register_forward_hook(lambda module, inputs, out: seen.append(out[1]))
    layer(x)
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(B, Q))


def test_functions():
    assert get_activation_fn("glu") is F.glu
    with pytest.raises(ValueError, match=r"expected one of \['relu', 'gelu', 'glu'\], got 'silu'"):
        FFNLayer(C, activation="silu")
    copies = get_clones(nn.Linear(2, 2), 3)
    assert len(copies) == 3 and copies[0].weight is not copies[1].weight
    assert torch.equal(copies[0].weight, copies[2].weight)
