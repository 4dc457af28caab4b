"""The embedding bag of exported programs against `grid_sample`."""

import pytest
import torch

from mask2former.ops.deform_attn import deformable_attention_grid_sample
from mask2former.ops.deform_attn.traced_bag import forward


@pytest.mark.parametrize("spread", [0.2, 1.0, 30.0])
def test_agrees_with_grid_sample_inside_and_outside(spread):
    torch.manual_seed(0)
    sizes = ((2, 3), (4, 1), (5, 7))
    value = torch.randn(2, sum(h * w for h, w in sizes), 3, 4)
    locations = 0.5 + spread * torch.randn(2, 9, 3, 3, 2, 2)
    weights = torch.rand(2, 9, 3, 3, 2)
    expected = deformable_attention_grid_sample(value, sizes, locations, weights)
    torch.testing.assert_close(forward(value, sizes, locations, weights), expected)


def test_edges_of_the_map():
    """The centre of the only pixel is at 0.5; at 0 and 1 half of it is seen, beyond 1.5 nothing."""
    value, weights = torch.full((1, 1, 1, 1), 8.0), torch.ones(1, 1, 1, 1, 1)
    for x, expected in ((0.5, 8.0), (0.0, 4.0), (1.0, 4.0), (1.25, 2.0), (1.5, 0.0), (9.0, 0.0)):
        at = torch.tensor([x, 0.5]).view(1, 1, 1, 1, 1, 2)
        assert forward(value, ((1, 1),), at, weights).item() == pytest.approx(expected, abs=1e-6)
