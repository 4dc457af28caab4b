"""Transformer layers against torch's own modules; masks, both norm orders."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mask2former.layers import (
    CrossAttentionLayer,
    FFNLayer,
    SelfAttentionLayer,
    TransformerDecoder,
    TransformerEncoder,
)
from mask2former.layers.transformer import TransformerDecoderLayer, TransformerEncoderLayer

B, Q, S, C, M = 2, 3, 5, 8, 2
DIM, HEADS, FFN = 8, 2, 12


def randomise(module: nn.Module) -> nn.Module:
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)
    return module.eval()


def torch_attention(attention, query, key, value, padding=None):
    """The same attention by torch's module."""
    other = nn.MultiheadAttention(DIM, HEADS, batch_first=True).eval()
    other.load_state_dict(attention.state_dict())
    return other(query, key, value, key_padding_mask=padding)[0]


@pytest.mark.parametrize("pre_norm", [False, True])
def test_layers_without_positions_are_those_of_torch(pre_norm):
    torch.manual_seed(0)
    options = {"dropout": 0.0, "batch_first": True, "norm_first": pre_norm}
    x, memory = torch.randn(2, 5, DIM), torch.randn(2, 7, DIM)
    encoder = randomise(TransformerEncoderLayer(DIM, HEADS, FFN, 0.0, pre_norm))
    other = nn.TransformerEncoderLayer(DIM, HEADS, FFN, **options).eval()
    other.load_state_dict(encoder.state_dict())
    assert_close(encoder(x, torch.zeros(5, DIM)), other(x), rtol=1e-4, atol=1e-5)

    decoder = randomise(TransformerDecoderLayer(DIM, HEADS, FFN, 0.0, pre_norm))
    other = nn.TransformerDecoderLayer(DIM, HEADS, FFN, **options).eval()
    other.load_state_dict(decoder.state_dict())
    got = decoder(x, torch.zeros(1, 5, DIM), memory, memory)
    assert_close(got, other(x, memory), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_positions_join_queries_and_keys_but_not_values(pre_norm):
    torch.manual_seed(0)
    layer = randomise(TransformerDecoderLayer(DIM, HEADS, FFN, 0.0, pre_norm))
    x, position = torch.randn(2, 5, DIM), torch.randn(2, 5, DIM)
    key, value = torch.randn(2, 7, DIM), torch.randn(2, 7, DIM)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 4:] = True

    def residual(y, norm, branch):
        return y + branch(norm(y)) if pre_norm else norm(y + branch(y))

    want = residual(
        x, layer.norm1, lambda y: torch_attention(layer.self_attn, y + position, y + position, y)
    )
    want = residual(
        want,
        layer.norm2,
        lambda y: torch_attention(layer.multihead_attn, y + position, key, value, padding),
    )
    want = residual(want, layer.norm3, lambda y: layer.linear2(layer.linear1(y).relu()))
    got = layer(x, position, key, value, ~padding[:, None, None])
    assert_close(got, want, rtol=1e-4, atol=1e-5)

    encoder = randomise(TransformerEncoderLayer(DIM, HEADS, FFN, 0.0, pre_norm))
    want = residual(
        x,
        encoder.norm1,
        lambda y: torch_attention(encoder.self_attn, y + position[0], y + position[0], y),
    )
    want = residual(want, encoder.norm2, lambda y: encoder.linear2(encoder.linear1(y).relu()))
    assert_close(encoder(x, position[0]), want, rtol=1e-4, atol=1e-5)


def test_encoder_has_a_last_norm_only_if_pre_norm():
    torch.manual_seed(0)
    x, position = torch.randn(1, 3, DIM), torch.zeros(3, DIM)
    for layers in (0, 2):
        assert "norm.weight" not in TransformerEncoder(layers, DIM, HEADS, FFN).state_dict()
        encoder = TransformerEncoder(layers, DIM, HEADS, FFN, pre_norm=True)
        assert "norm.weight" in encoder.state_dict()
        assert_close(encoder(x, position).mean(-1), torch.zeros(1, 3))
    assert torch.equal(TransformerEncoder(0, DIM, HEADS, FFN)(x, position), x)


def test_decoder_returns_every_layer_normalised():
    torch.manual_seed(0)
    decoder = randomise(TransformerDecoder(3, DIM, HEADS, FFN))
    x, position = torch.randn(2, 5, DIM), torch.randn(1, 5, DIM)
    memory = torch.randn(2, 4, DIM)
    out = decoder(x, position, memory, memory)
    assert out.shape == (3, 2, 5, DIM)
    for i, layer in enumerate(decoder.layers):
        x = layer(x, position, memory, memory)
        assert_close(out[i], decoder.norm(x))


def test_dropout_acts_while_training_only():
    torch.manual_seed(0)
    encoder = TransformerEncoder(1, DIM, HEADS, FFN, dropout=0.5)
    x, position = torch.randn(2, 5, DIM), torch.zeros(5, DIM)
    assert not torch.equal(encoder(x, position), encoder(x, position))
    encoder.eval()
    assert torch.equal(encoder(x, position), encoder(x, position))


def test_matrices_start_as_xavier_has_it():
    torch.manual_seed(0)
    encoder = TransformerEncoder(1, 64, 2, 256)
    bound = (6 / (64 + 256)) ** 0.5
    weight = encoder.layers[0].linear1.weight
    assert 0.98 * bound < weight.abs().max() <= bound


def test_a_decoder_needs_a_layer():
    with pytest.raises(ValueError, match="at least 1 layer, got 0"):
        TransformerDecoder(0, DIM, HEADS, FFN)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
