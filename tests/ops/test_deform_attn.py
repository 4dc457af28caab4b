"""Deformable attention: agreement with grid_sample, gradients, borders, errors."""

import pytest
import torch

from mask2former.ops import deform_attn
from mask2former.ops.deform_attn import deformable_attention, deformable_attention_grid_sample


def make_inputs(sizes, *, batch=2, queries=5, heads=2, points=3, dim=4, dtype=torch.float64):
    """Random values and weights, and locations of which many lie outside of the maps."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(h * w for h, w in sizes)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    value = rand(batch, tokens, heads, dim) - 0.5
    locations = rand(batch, queries, heads, len(sizes), points, 2) * 2 - 0.5
    weights = rand(batch, queries, heads, len(sizes), points)
    return value, locations, weights


SIZES = [((4, 6),), ((1, 1),), ((3, 5), (2, 3), (1, 1)), ((7, 2), (1, 9), (4, 4), (2, 1))]


@pytest.mark.parametrize("sizes", SIZES)
def test_agrees_with_grid_sample(sizes):
    value, locations, weights = make_inputs(sizes)
    expected = deformable_attention_grid_sample(value, sizes, locations, weights)
    got = deformable_attention(value, sizes, locations, weights)
    assert got.shape == (2, 5, 8)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_gradients_agree_with_grid_sample(sizes):
    grads = []
    for operator in (deformable_attention, deformable_attention_grid_sample):
        value, locations, weights = (x.requires_grad_() for x in make_inputs(sizes))
        out = operator(value, sizes, locations, weights)
        out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out))
        grads.append((value.grad, locations.grad, weights.grad))
    for got, expected in zip(*grads):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)


def test_gradcheck():
    sizes = ((3, 2), (1, 2))
    value, locations, weights = (
        x.requires_grad_() for x in make_inputs(sizes, batch=1, queries=2, points=2, dim=3)
    )
    assert torch.autograd.gradcheck(
        lambda v, x, w: deformable_attention(v, sizes, x, w), (value, locations, weights)
    )


def test_chunks_do_not_change_anything(monkeypatch):
    sizes = ((4, 3), (2, 2))
    results = []
    for chunk in (2, 100):
        monkeypatch.setattr(deform_attn, "_QUERIES_PER_CHUNK", chunk)
        monkeypatch.setattr(deform_attn, "_QUERIES_PER_BACKWARD_CHUNK", chunk)
        value, locations, weights = (x.requires_grad_() for x in make_inputs(sizes, queries=7))
        out = deformable_attention(value, sizes, locations, weights)
        out.square().sum().backward()
        results.append((out.detach(), value.grad, locations.grad, weights.grad))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_pixel_centre_reads_the_pixel_and_the_border_fades_to_zero():
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 4, 1, 1)  # a 2x2 map
    places = torch.tensor(
        [
            [0.25, 0.25],  # centre of the first pixel
            [0.5, 0.5],  # the middle: the mean of all four
            [0.0, 0.25],  # half a pixel outside to the left: half of the first pixel
            [1.25, 0.25],  # a whole pixel outside to the right: nothing
        ]
    ).view(1, 4, 1, 1, 1, 2)
    out = deformable_attention(value, [(2, 2)], places, torch.ones(1, 4, 1, 1, 1))
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 2.5, 0.5, 0.0]))


def test_far_outside_reads_zero_without_error():
    value, locations, weights = make_inputs(((3, 3),))
    out = deformable_attention(value, ((3, 3),), locations * 1e6 + 1e6, weights)
    assert (out == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, x, w: (v[:, :-1], x, w), r"value must be \(B, 16, M, D\)"),
        (lambda v, x, w: (v, x[..., :1], w), "locations must be"),
        (lambda v, x, w: (v, x, w[:, :-1]), "weights must have the shape of locations"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    sizes = ((3, 5), (1, 1))
    with pytest.raises(ValueError, match=message):
        value, locations, weights = change(*make_inputs(sizes))
        deformable_attention(value, sizes, locations, weights)
