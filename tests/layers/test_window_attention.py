"""Window attention against attention over all pixels under a mask, and the block's options."""

import math

import pytest
import torch

from mask2former.layers import SwinBlock, WindowAttention


def dense_window_attention(attn: WindowAttention, x, window: int, shift: int):
    """The same by one dense attention over the whole padded map, pixel pairs in Python terms."""
    height, width, dim = x.shape
    pad_h, pad_w = -(-height // window) * window, -(-width // window) * window
    padded = x.new_zeros(pad_h, pad_w, dim)
    padded[:height, :width] = x
    y, x = (
        a.flatten() for a in torch.meshgrid(torch.arange(pad_h), torch.arange(pad_w), indexing="ij")
    )
    moved_y, moved_x = (y - shift) % pad_h, (x - shift) % pad_w
    # Pixels attend to each other within a window, unless one of them came round the border.
    group = torch.stack([moved_y // window, moved_x // window, y < shift, x < shift])
    together = (group[:, :, None] == group[:, None]).all(0)
    row = (moved_y[:, None] - moved_y + window - 1) * (2 * window - 1)
    index = row + moved_x[:, None] - moved_x + window - 1
    index = index.where(together, torch.zeros_like(index))

    heads = attn.num_heads
    q, k, v = attn.qkv(padded.flatten(0, 1)).unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
    logits = q @ k.transpose(1, 2) / math.sqrt(dim // heads)
    logits = logits + attn.relative_position_bias_table[index].permute(2, 0, 1)
    out = logits.masked_fill(~together, -torch.inf).softmax(-1) @ v
    out = attn.proj(out.transpose(0, 1).flatten(1))
    return out.view(pad_h, pad_w, dim)[:height, :width]


@pytest.mark.parametrize("window, shift", [(4, 0), (4, 2), (3, 1), (7, 3), (1, 0)])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (3, 11), (1, 1), (2, 16)])
def test_attends_as_dense_attention_does(window, shift, size):
    torch.manual_seed(0)
    block = SwinBlock(8, window, shift, num_heads=2).eval()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(2, *size, 8)
    with torch.no_grad():
        got = block.attn(x)
        want = torch.stack([dense_window_attention(block.attn, i, window, shift) for i in x])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_bias_rows_belong_to_relative_positions():
    attn = WindowAttention(1, window=2, num_heads=1)
    attn.relative_position_bias_table.data = torch.arange(9.0)[:, None]
    # Pixels 0 1 / 2 3 of the window; row (dy + 1) * 3 + dx + 1 for query minus key (dy, dx).
    want = torch.tensor([[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])
    assert attn.position_bias()[0].tolist() == want.tolist()


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    block = SwinBlock(8, 3, 1, num_heads=2).train()
    block(torch.randn(1, 5, 7, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


def test_query_scale_replaces_the_usual_one():
    torch.manual_seed(0)
    plain = WindowAttention(8, 2, num_heads=2)
    scaled = WindowAttention(8, 2, num_heads=2, qk_scale=0.25)
    scaled.load_state_dict(plain.state_dict())
    x, bias = torch.randn(3, 4, 8), torch.zeros(2, 4, 4)
    plain.qkv.weight.data[:8] *= 0.5  # queries by half: 0.5 at the usual scale of 4 ** -0.5
    plain.qkv.bias.data[:8] *= 0.5
    torch.testing.assert_close(plain.attend(x, bias), scaled.attend(x, bias))


def test_drop_path_skips_both_branches_of_an_image():
    torch.manual_seed(0)
    block = SwinBlock(4, 2, 0, num_heads=1, drop_path=0.5).train()
    x = torch.randn(64, 2, 2, 4)
    same = (block(x) == x).flatten(1).all(1).float().mean()
    assert 0.1 < same < 0.45  # a quarter, on average
    block.eval()
    assert not (block(x) == x).flatten(1).all(1).any()


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="6 channels do not split into 4 heads"):
        WindowAttention(6, 2, num_heads=4)
