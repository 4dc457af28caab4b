"""Deformable attention by its published call: agrees with our layer and with transformers."""

import pytest
import torch

from mask2former.layers.deformable import DeformableAttention, pixel_centres
from mask2former.published.deform_attn import (
    MSDeformAttn,
    MSDeformAttnFunction,
    ms_deform_attn_core_pytorch,
)

C, M, P = 32, 4, 3
SIZES = [(4, 5), (2, 3)]
STARTS = torch.tensor([0, 20])
TOTAL = 26


def make_layer(kind=MSDeformAttn, points=P):
    torch.manual_seed(0)
    layer = kind(C, 2, M, points)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


def make_input(coordinates=2, queries=TOTAL):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, queries, C, generator=generator)
    pixels = torch.randn(2, TOTAL, C, generator=generator)
    reference = torch.rand(2, queries, 2, coordinates, generator=generator)
    return query, reference, pixels


def test_agrees_with_our_layer():
    query, _, pixels = make_input()
    ours, published = make_layer(DeformableAttention), make_layer()
    assert list(ours.state_dict()) == list(published.state_dict())
    position = torch.randn(TOTAL, C)
    centres = pixel_centres(SIZES, torch.device("cpu"))
    expected = ours(query, position, centres, pixels, SIZES)
    reference = centres[None, :, None].expand(2, -1, 2, -1)
    got = published(query + position, reference, pixels, torch.tensor(SIZES), STARTS)
    torch.testing.assert_close(got, expected)


@torch.no_grad()
@pytest.mark.parametrize("coordinates", [2, 4])
@pytest.mark.parametrize("masked", [True, False])
def test_agrees_with_transformers(coordinates, masked):
    modeling = pytest.importorskip("transformers.models.deformable_detr.modeling_deformable_detr")
    config = modeling.DeformableDetrConfig(d_model=C, num_feature_levels=2)
    theirs = modeling.DeformableDetrMultiscaleDeformableAttention(config, M, P)
    layer = make_layer()
    theirs.load_state_dict(layer.state_dict())
    query, reference, pixels = make_input(coordinates, queries=7)
    mask = torch.rand(2, TOTAL) < 0.4 if masked else None
    expected, _ = theirs(
        query,
        attention_mask=None if mask is None else ~mask,
        encoder_hidden_states=pixels,
        reference_points=reference,
        spatial_shapes=torch.tensor(SIZES),
        spatial_shapes_list=SIZES,
        level_start_index=STARTS,
    )
    got = layer(query, reference, pixels, torch.tensor(SIZES), STARTS, mask)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_box_by_hand():
    """An offset of P reaches half a box away from its centre."""
    layer = MSDeformAttn(d_model=1, n_levels=1, n_heads=1, n_points=1)
    for linear in (layer.value_proj, layer.output_proj):
        torch.nn.init.ones_(linear.weight)
    layer.sampling_offsets.bias.copy_(torch.tensor([1.0, -1.0]))
    pixels = torch.arange(16.0).view(1, 16, 1)  # 4 x 4
    box = torch.tensor([0.375, 0.625, 0.5, 0.5]).view(1, 1, 1, 4)  # centre of row 2, column 1
    out = layer(torch.zeros(1, 1, 1), box, pixels, [(4, 4)])
    assert out.item() == pytest.approx(4 * 1 + 2)  # row 1, column 2


@torch.no_grad()
@pytest.mark.parametrize("coordinates", [2, 4])
def test_one_reference_point_for_all_levels_and_images(coordinates):
    layer, (query, reference, pixels) = make_layer(), make_input(coordinates)
    reference = reference[:1, :, :1]
    expected = layer(query, reference.expand(2, -1, 2, -1), pixels, SIZES)
    torch.testing.assert_close(layer(query, reference, pixels, SIZES), expected)


def test_masked_pixels_count_as_zeros_and_get_no_gradient():
    layer, (query, reference, pixels) = make_layer(), make_input()
    mask = torch.rand(2, TOTAL) < 0.5
    pixels.requires_grad_()
    layer(query, reference, pixels, torch.tensor(SIZES), STARTS, mask).sum().backward()
    assert (pixels.grad[mask] == 0).all() and (pixels.grad[~mask] != 0).any()


@torch.no_grad()
def test_locations_are_float32_under_autocast():
    layer = make_layer()
    torch.nn.init.zeros_(layer.sampling_offsets.weight)
    torch.nn.init.zeros_(layer.sampling_offsets.bias)
    query, reference, _ = make_input(queries=1)
    with torch.autocast("cpu", torch.bfloat16):
        offsets = layer.sampling_offsets(query).view(2, 1, M, 2, P, 2)
        locations = layer._locations(reference, offsets, SIZES)
    assert torch.equal(locations[:, :, 0, :, 0], reference)


def test_function_and_plain_pytorch_agree():
    value = torch.randn(2, TOTAL, M, 8, requires_grad=True)
    locations = torch.rand(2, 5, M, 2, P, 2, requires_grad=True)
    weights = torch.rand(2, 5, M, 2, P, requires_grad=True)
    inputs = (value, locations, weights)
    shapes = torch.tensor(SIZES)
    fast = MSDeformAttnFunction.apply(value, shapes, STARTS, locations, weights, 64)
    plain = ms_deform_attn_core_pytorch(value, shapes, locations, weights)
    torch.testing.assert_close(fast, plain)
    for a, b in zip(*(torch.autograd.grad(x.sum(), inputs) for x in (fast, plain))):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_defaults_and_attributes():
    layer = MSDeformAttn()
    assert (layer.d_model, layer.n_levels, layer.n_heads, layer.n_points) == (256, 4, 8, 4)
    before = layer.sampling_offsets.bias.clone()
    torch.nn.init.zeros_(layer.sampling_offsets.bias)
    layer._reset_parameters()
    assert torch.equal(layer.sampling_offsets.bias, before)


def test_errors():
    layer, (query, _, pixels) = make_layer(), make_input()
    with pytest.raises(
        ValueError, match=r"must be \(x, y\) or \(x, y, w, h\), got \(2, 26, 2, 3\)"
    ):
        layer(query, torch.zeros(2, TOTAL, 2, 3), pixels, SIZES)
    with pytest.raises(ValueError, match=r"value must be \(B, 30, M, D\)"):
        layer(query, torch.zeros(2, TOTAL, 2, 2), pixels, [(4, 6), (2, 3)])
