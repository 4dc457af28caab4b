"""Deformable layers: initial offsets worked out by hand, invariants, errors."""

import pytest
import torch

from mask2former.layers import DeformableAttention, DeformableEncoder, deformable
from mask2former.layers.deformable import _pixel_fractions, _softmax, pixel_centres


def test_pixel_centres_by_hand():
    expected = torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])
    torch.testing.assert_close(pixel_centres([(1, 2), (2, 1)], torch.device("cpu")), expected)


def test_initial_offsets_by_hand():
    layer = DeformableAttention(dim=8, num_levels=2, num_heads=4, num_points=3)
    assert (layer.sampling_offsets.weight == 0).all()
    offsets = layer.sampling_offsets.bias.view(4, 2, 3, 2)
    directions = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    for head, (x, y) in enumerate(directions):
        expected = torch.tensor([(x * n, y * n) for n in (1.0, 2, 3)]).expand(2, 3, 2)
        torch.testing.assert_close(offsets[head], expected, rtol=0, atol=1e-6)


def test_constant_map_comes_back_inside():
    """Away from borders the mean of a constant map is that constant, whatever the offsets."""
    layer = DeformableAttention(dim=8, num_levels=1, num_heads=2, num_points=1)
    for linear in (layer.value_proj, layer.output_proj):
        torch.nn.init.eye_(linear.weight)
    token = torch.arange(8.0)
    value = token.expand(1, 49, 8)
    out = layer(
        torch.randn(1, 1, 8), torch.randn(1, 8), torch.tensor([[0.5, 0.5]]), value, [(7, 7)]
    )
    torch.testing.assert_close(out[0, 0], token)


def encoder_and_inputs():
    torch.manual_seed(0)
    sizes = [(2, 3), (4, 5)]
    encoder = DeformableEncoder(
        2, dim=8, ffn_dim=16, dropout=0.0, num_levels=2, num_heads=2, num_points=2
    ).eval()
    torch.nn.init.normal_(encoder.layers[0].self_attn.sampling_offsets.weight)
    x, position = torch.randn(3, 26, 8), torch.randn(26, 8)
    return encoder, x, position, sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_softmax_without_gradients_agrees_with_pytorch(dtype):
    """Also where numbers are far from zero, or one of them is infinitely small."""
    logits = torch.randn(2, 5, 4, 12) * 30 + torch.tensor([0.0, 300.0])[:, None, None, None]
    logits[0, 0, 0, :11] = -torch.inf
    logits = logits.to(dtype)
    with torch.no_grad():
        got = _softmax(logits)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, logits.float().softmax(-1))


@pytest.mark.parametrize("gradients", [True, False])
def test_locations_by_hand(gradients):
    """Offsets in pixels of each level, from the query's own reference point."""
    layer = DeformableAttention(dim=1, num_levels=2, num_heads=1, num_points=2)
    torch.nn.init.ones_(layer.sampling_offsets.weight)  # of a query 10: 10 more
    layer.sampling_offsets.bias.data = torch.tensor([0.0, 0, -9, -8, 0, 0, 10, -10])
    reference = torch.tensor([[0.5, 0.25], [0.0, 1.0]])
    pixel = _pixel_fractions([(10, 20), (1, 2)], 1, 2, torch.device("cpu"))
    with torch.set_grad_enabled(gradients):
        locations, weights = layer._samples(torch.tensor([[[10.0], [0]]]), reference, pixel)
    expected = [
        [0.5 + 0.5, 0.25 + 1, 0.5 + 0.05, 0.25 + 0.2, 0.5 + 5, 0.25 + 10, 0.5 + 10, 0.25],
        [0, 1, -0.45, 1 - 0.8, 0, 1, 5, 1 - 10],
    ]
    torch.testing.assert_close(locations, torch.tensor([expected]))
    torch.testing.assert_close(weights, torch.full((1, 2, 1, 4), 0.25))


@pytest.mark.parametrize("autocast", [True, False])
@torch.no_grad()
def test_locations_are_float32_where_products_are_not(autocast):
    """A sum in 16 bits would move them by more than a pixel of a large map."""
    layer = DeformableAttention(dim=8, num_levels=1, num_heads=2, num_points=1)
    torch.nn.init.zeros_(layer.sampling_offsets.bias)
    query, reference = torch.randn(1, 1, 8), torch.tensor([[0.123456, 0.876543]])
    if not autocast:
        layer, query = layer.bfloat16(), query.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        pixel = _pixel_fractions([(900, 900)], 2, 1, torch.device("cpu"))
        locations, _ = layer._samples(query, reference, pixel)
    assert torch.equal(locations, reference.repeat(1, 2)[None])


@torch.no_grad()
def test_chunks_of_tokens_agree_with_the_whole(monkeypatch):
    encoder, x, position, sizes = encoder_and_inputs()
    with torch.enable_grad():
        whole = encoder(x, position, sizes)
    for count in (1, 7, 26, 100):
        monkeypatch.setattr(deformable, "_TOKENS_PER_CHUNK", {"cpu": count})
        torch.testing.assert_close(encoder(x, position, sizes), whole)


def test_images_of_a_batch_do_not_mix():
    encoder, x, position, sizes = encoder_and_inputs()
    with torch.no_grad():
        together = encoder(x, position, sizes)
        alone = torch.cat([encoder(one[None], position, sizes) for one in x])
    torch.testing.assert_close(together, alone)


def test_width_must_split_into_heads():
    with pytest.raises(ValueError, match="10 channels do not split into 4 heads"):
        DeformableAttention(10, 1, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_encoder_does_not_wait_for_the_gpu():
    encoder = DeformableEncoder(2, dim=32, ffn_dim=16, dropout=0.0, num_levels=2, num_heads=2)
    encoder = encoder.cuda().eval()
    x, position = torch.randn(1, 26, 32, device="cuda"), torch.randn(26, 32, device="cuda")
    with torch.no_grad():
        encoder(x, position, [(2, 3), (4, 5)])  # compiles and tunes the kernels
        try:
            torch.cuda.set_sync_debug_mode("error")
            encoder(x, position, [(3, 2), (5, 4)])
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_layers_overwrite_what_is_their_own_alone(monkeypatch):
    """Neither what came in nor what a hook has seen changes, and results are those with gradients,
    also of chunks of tokens."""
    monkeypatch.setitem(deformable._TOKENS_PER_CHUNK, "cpu", 7)
    encoder, x, position, sizes = encoder_and_inputs()
    expected, inputs = encoder(x, position, sizes).detach(), x.clone()
    with torch.no_grad():
        torch.testing.assert_close(encoder(x, position, sizes), expected)
        seen = []
        layer = encoder.layers[0]
        for module in (layer, layer.self_attn):
            module.register_forward_hook(lambda m, args, out: seen.append((out, out.clone())))
        torch.testing.assert_close(encoder(x, position, sizes), expected)
    assert torch.equal(x, inputs)
    assert len(seen) == 2
    for out, then in seen:
        assert torch.equal(out, then)


def test_all_layers_after_the_first_write_to_one_tensor(monkeypatch):
    encoder, x, position, sizes = encoder_and_inputs()
    results, forward = [], deformable.DeformableEncoderLayer.forward

    def run(self, *args):
        self.last = forward(self, *args)
        results.append(self.last.data_ptr())
        return self.last

    monkeypatch.setattr(deformable.DeformableEncoderLayer, "forward", run)
    with torch.no_grad():
        encoder(x, position, sizes)
    assert len(results) == 2
    assert len(set(results)) == 1
