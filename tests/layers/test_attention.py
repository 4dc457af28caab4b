"""Attention: agreement with torch.nn.MultiheadAttention, masks, both norm orders."""

import pytest
import torch
from torch import nn

from mask2former.layers import CrossAttentionLayer, FFNLayer, MultiheadAttention, SelfAttentionLayer

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
    expected = oracle(query, key, value, attn_mask=blocked, need_weights=False)[0]
    torch.testing.assert_close(ours(query, key, value, attend), expected)
    expected = oracle(query, key, value, need_weights=False)[0]
    torch.testing.assert_close(ours(query, key, value), expected)


def test_weights_are_dropped_in_training_alone():
    layer = MultiheadAttention(C, M, dropout=0.5)
    inputs = rand(B, Q, C), rand(B, S, C, seed=1), rand(B, S, C, seed=2)
    assert not torch.equal(layer.train()(*inputs), layer(*inputs))
    assert torch.equal(layer.eval()(*inputs), layer(*inputs))


def test_width_must_split_into_heads():
    with pytest.raises(ValueError, match="10 channels do not split into 4 heads"):
        MultiheadAttention(10, 4)


def test_blocked_keys_have_no_influence():
    torch.manual_seed(0)
    layer = CrossAttentionLayer(C, M).eval()
    attend = torch.tensor([True, True, False, True, False]).expand(B, 1, Q, S)
    x, position, key, value = rand(B, Q, C), rand(1, Q, C), rand(B, S, C), rand(B, S, C)
    before = layer(x, position, key, value, attend)
    key[:, [2, 4]] += 7
    value[:, [2, 4]] -= 3
    torch.testing.assert_close(layer(x, position, key, value, attend), before)


def test_self_attention_does_not_depend_on_the_order_of_queries():
    torch.manual_seed(0)
    layer = SelfAttentionLayer(C, M).eval()
    x, position = rand(B, Q, C), rand(1, Q, C, seed=1)
    order = torch.tensor([2, 0, 1])
    expected = layer(x, position)[:, order]
    torch.testing.assert_close(layer(x[:, order], position[:, order]), expected)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_norm_order(pre_norm):
    """With attention and feed-forward outputs of zero only the norms are left."""
    x, position = rand(B, Q, C) * 5, rand(1, Q, C)
    normed = nn.functional.layer_norm(x, (C,))
    expected = x if pre_norm else normed
    self_attention = SelfAttentionLayer(C, M, pre_norm=pre_norm)
    cross_attention = CrossAttentionLayer(C, M, pre_norm=pre_norm)
    ffn = FFNLayer(C, 16, pre_norm=pre_norm)
    for linear in (
        self_attention.self_attn.out_proj,
        cross_attention.multihead_attn.out_proj,
        ffn.linear2,
    ):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    keys = rand(B, S, C)
    torch.testing.assert_close(self_attention(x, position), expected)
    torch.testing.assert_close(cross_attention(x, position, keys, keys, None), expected)
    torch.testing.assert_close(ffn(x), expected)


def test_positions_reach_queries_and_keys_but_not_values():
    torch.manual_seed(0)
    layer = SelfAttentionLayer(C, M).eval()
    x = rand(B, 1, C)  # a single query attends to itself, whatever its position
    torch.testing.assert_close(layer(x, rand(1, 1, C, seed=1)), layer(x, torch.zeros(1, 1, C)))
    x = rand(B, Q, C)
    moved = layer(x, rand(1, Q, C, seed=1) * 3)
    assert not torch.allclose(moved, layer(x, torch.zeros(1, Q, C)), atol=1e-3)
