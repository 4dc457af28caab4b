"""The deformable encoder by its published calls: against ours, padding by hand."""

import torch

from mask2former.layers import DeformableEncoder
from mask2former.published.deformable_encoder import (
    MSDeformAttnTransformerEncoder,
    MSDeformAttnTransformerEncoderLayer,
)

C, SIZES = 16, [(2, 3), (4, 5)]
SHAPES, STARTS, TOTAL = torch.tensor(SIZES), torch.tensor([0, 6]), 26


def make_encoder(**options):
    torch.manual_seed(0)
    layer = MSDeformAttnTransformerEncoderLayer(
        d_model=C, d_ffn=32, dropout=0.0, n_levels=2, n_heads=2, n_points=3, **options
    )
    encoder = MSDeformAttnTransformerEncoder(layer, num_layers=2)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def test_agrees_with_ours():
    encoder = make_encoder()
    ours = DeformableEncoder(
        2, dim=C, ffn_dim=32, dropout=0.0, num_levels=2, num_heads=2, num_points=3
    )
    assert list(encoder.state_dict()) == list(ours.state_dict())
    ours.load_state_dict(encoder.state_dict())
    x, position = torch.randn(2, TOTAL, C), torch.randn(2, TOTAL, C)
    everything = torch.ones(2, 2, 2)
    got = encoder(x, SHAPES, STARTS, everything, position, padding_mask=None)
    torch.testing.assert_close(got, ours(x, position, SIZES), rtol=1e-4, atol=1e-4)


def test_reference_points_of_padded_images_by_hand():
    """A pixel's centre as a fraction of what is no padding, on the padded map of each level."""
    ratios = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.5, 1.0], [0.6, 0.75]]])
    points = MSDeformAttnTransformerEncoder.get_reference_points(SHAPES, ratios, ratios.device)
    assert points.shape == (2, TOTAL, 2, 2)
    centre = torch.tensor([0.5 / 3, 0.25])
    torch.testing.assert_close(points[0, 0], centre.expand(2, 2))
    part = centre / torch.tensor([0.5, 1.0])
    torch.testing.assert_close(points[1, 0], part * ratios[1])
    last = torch.tensor([4.5 / 5, 3.5 / 4]) / ratios[1, 1]
    torch.testing.assert_close(points[1, -1], last * ratios[1])


def test_padded_pixels_reach_no_other():
    encoder, ratios = make_encoder(activation="gelu"), torch.ones(1, 2, 2)
    x = torch.randn(1, TOTAL, C)
    padding = torch.zeros(1, TOTAL, dtype=torch.bool)
    padding[:, 20:] = True
    other = x.clone()
    other[:, 20:] += 1
    a, b = (encoder(t, SHAPES, STARTS, ratios, None, padding)[:, :20] for t in (x, other))
    torch.testing.assert_close(a, b)
    assert not torch.allclose(encoder(x, SHAPES, STARTS, ratios)[:, :20], a)
