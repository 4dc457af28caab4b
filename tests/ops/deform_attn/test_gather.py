"""Deformable attention by gathers: agreement with grid_sample, forward and backward."""

import pytest
import torch

from mask2former.ops.deform_attn import (
    deformable_attention,
    deformable_attention_grid_sample,
    use_implementation,
)
from tests.ops.deform_attn.test_bag import SIZES, make_inputs, run


@pytest.mark.parametrize("sizes", SIZES)
def test_agrees_with_grid_sample(sizes):
    inputs = make_inputs(sizes)
    expected = run(deformable_attention_grid_sample, sizes, inputs)
    with use_implementation("gather"):
        for a, b in zip(run(deformable_attention, sizes, inputs), expected):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["bag", "grid_sample", "gather"])
def test_levels_and_points_may_share_an_axis(name):
    sizes = ((3, 5), (2, 3), (1, 1))
    value, locations, weights = make_inputs(sizes)
    with use_implementation(name):
        expected = deformable_attention(value, sizes, locations, weights)
        got = deformable_attention(value, sizes, locations.flatten(3, 4), weights.flatten(3))
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
