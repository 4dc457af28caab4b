"""The simple feature pyramid: sizes, values by hand, and which level has which layers."""

import pytest
import torch

from mask2former.layers import SimpleFeaturePyramid


@pytest.mark.parametrize(
    ("stride", "sizes"),
    [
        (16, [(20, 12), (10, 6), (5, 3), (3, 2)]),
        (8, [(10, 6), (5, 3), (3, 2), (2, 1)]),
        (32, [(40, 24), (20, 12), (10, 6), (5, 3)]),
    ],
)
def test_strides_double_and_odd_sides_are_rounded_up(stride, sizes):
    pyramid = SimpleFeaturePyramid(16, stride, 6, (4, 8, 16, 32))
    maps = pyramid(torch.randn(2, 16, 5, 3))
    assert [tuple(x.shape) for x in maps] == [(2, 6, *size) for size in sizes]
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters())


def test_layers_are_named_plainly():
    pyramid = SimpleFeaturePyramid(16, 16, 6, (4, 8, 16, 32))
    assert [list(dict(level.named_children())) for level in pyramid.levels] == [
        ["up1", "norm1", "act1", "up2", "project", "norm"],
        ["up1", "project", "norm"],
        ["project", "norm"],
        ["pool1", "project", "norm"],
    ]
    assert pyramid.levels[0].project.weight.shape == (6, 4, 1, 1)  # halved by each doubling


def test_pooling_takes_the_largest_and_the_norm_goes_over_channels():
    pyramid = SimpleFeaturePyramid(2, 16, 2, (32,))
    pyramid.levels[0].project.weight.data = torch.eye(2)[:, :, None, None]
    x = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]], [[-5.0, -7.0], [-6.0, -9.0]]]])
    # Maxima are 3 and -5: mean -1, deviation 4.
    torch.testing.assert_close(pyramid(x)[0].flatten(), torch.tensor([1.0, -1.0]))
