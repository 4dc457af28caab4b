"""Attention to sampled keys against loops over pixels; where the keys are."""

import math

import pytest
import torch

from mask2former.modeling.backbone import dat_attention
from mask2former.modeling.backbone.dat_attention import LocalAttention, SampledKeyAttention


def make(offset_range: float = 2.0) -> SampledKeyAttention:
    torch.manual_seed(0)
    attn = SampledKeyAttention(8, 4, groups=2, side=4, kernel=3, offset_range=offset_range)
    for p in attn.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return attn.eval().double()


def read(image, y: float, x: float):
    """Bilinear value of (C, H, W) at normalised (y, x), zero outside, by the definition."""
    (height, width), value = image.shape[1:], 0.0
    y, x = (y + 1) / 2 * (height - 1), (x + 1) / 2 * (width - 1)
    for i in range(height):
        for j in range(width):
            weight = max(0.0, 1 - abs(y - i)) * max(0.0, 1 - abs(x - j))
            value = value + weight * image[:, i, j]
    return value


def places(attn: SampledKeyAttention, x, i: int, j: int):
    """Where each of the two groups reads the key of pixel (i, j) of x (C, H, W)."""
    height, width = x.shape[1:]
    depthwise, norm, gelu, to_offset = attn.conv_offset
    found = []
    for query in attn.proj_q(x[None]).split(4, dim=1):
        hidden = gelu(norm(depthwise(query).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        move = to_offset(hidden)[0, :, i, j].tanh()  # y, x
        y = (i + 0.5) * 2 / (height - 1) - 1 + move[0] / (height - 1) * 2
        z = (j + 0.5) * 2 / (width - 1) - 1 + move[1] / (width - 1) * 2
        found.append((float(y), float(z)))
    return found


def slow_attention(attn: SampledKeyAttention, x, head: int, row: int, column: int):
    """What one head gives one query of the map (C, H, W), key by key."""
    height, width = x.shape[1:]
    lanes, table = slice(2 * head, 2 * head + 2), attn.rpe_table[head : head + 1]
    query = attn.proj_q(x[None])[0, lanes, row, column]
    logits, values = [], []
    for i in range(height):
        for j in range(width):
            where = places(attn, x, i, j)
            sample = torch.cat([read(part, *at) for part, at in zip(x.split(4), where)])
            key, value = (
                p(sample[None, :, None, None]).flatten() for p in (attn.proj_k, attn.proj_v)
            )
            y, z = where[head // 2]
            dy = (row * 2 / (height - 1) - 1 - y) / 2
            dx = (column * 2 / (width - 1) - 1 - z) / 2
            logits.append(query @ key[lanes] / math.sqrt(2) + read(table, dy, dx)[0])
            values.append(value[lanes])
    return torch.stack(logits).softmax(0) @ torch.stack(values)


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_agrees_with_loops_over_pixels(size):
    attn = make()
    attn.proj_out.weight.data = torch.eye(8).double()[:, :, None, None]
    attn.proj_out.bias.data.zero_()
    x = torch.randn(8, *size).double()
    with torch.no_grad():
        got = attn(x.permute(1, 2, 0)[None])[0]
        for head in (0, 3):
            want = slow_attention(attn, x, head, row=2, column=1)
            torch.testing.assert_close(got[2, 1, 2 * head : 2 * head + 2], want)


def test_chunks_change_no_value_and_no_gradient(monkeypatch):
    attn = make()
    x = torch.randn(2, 5, 7, 8).double()
    runs = []
    for queries in (35, 3):  # at a time
        monkeypatch.setattr(dat_attention, "_MAX_LOGITS", 2 * 4 * 35 * queries)
        attn.zero_grad()
        out = attn(x)
        out.square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(attn(x), out)
        runs.append([out, *(p.grad for p in attn.parameters())])
    torch.testing.assert_close(runs[0], runs[1])


def test_references_are_pixel_corners_and_moves_are_bounded():
    attn = make()
    query = torch.randn(1, 4, 6, 8).double()
    positions = attn.positions(query)
    assert positions.shape == (2, 4, 6, 2)
    attn.conv_offset[3].weight.data.zero_()
    references = attn.positions(query)  # of keys that are not moved
    # Half a pixel down and right of the middle of the first pixel; the last lies outside.
    first, last = references[0, 0, 0], references[0, -1, -1]
    torch.testing.assert_close(first, torch.tensor([-1 + 1 / 3, -1 + 1 / 5]).double())
    torch.testing.assert_close(last, torch.tensor([1 + 1 / 3, 1 + 1 / 5]).double())
    moves = (positions - references).abs().flatten(0, 2).amax(0)
    assert (moves < torch.tensor([2 / 3, 2 / 5])).all() and (moves > 0.01).all()


def test_free_keys_stay_inside():
    attn = make(offset_range=-1)
    attn.conv_offset[3].weight.data *= 100
    assert attn.positions(torch.randn(1, 4, 6, 8).double()).abs().max() == 1


def test_sampling_keeps_its_precision_in_half_precision():
    attn, x = make().float(), torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        want = attn(x)
        with torch.autocast("cpu", torch.bfloat16):
            got = attn(x)
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).abs().mean() < 0.02 * want.abs().mean()


def test_windows_are_shifted_by_half_their_side_rounded_up():
    assert LocalAttention(8, 7, 2, shifted=True, side=14).shift == 4
    assert LocalAttention(8, 12, 2, shifted=True, side=24).shift == 6
    assert "attn_mask" not in LocalAttention(8, 7, 2, shifted=False, side=14).state_dict()
