"""Boundary regions: a slow oracle and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mask2former.evaluation.instance.boundary import boundary_region, boundary_width


@settings(max_examples=40)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(1, 4))
def test_pixels_with_background_nearby(mask, width):
    padded = np.pad(mask, width)  # outside the image is background
    expected = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        expected[y, x] = not padded[y : y + 2 * width + 1, x : x + 2 * width + 1].all()
    np.testing.assert_array_equal(boundary_region(mask, width), expected)


def test_mask_is_not_changed():
    mask = np.ones((5, 5), bool)
    assert boundary_region(mask, 1).sum() == 16
    assert mask.all()


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(480, 640, 16), (6, 8, 1), (1, 1, 1), (30, 40, 1)]
)
def test_width_is_two_percent_of_the_diagonal(height, width, expected):
    assert boundary_width(height, width) == expected
    assert boundary_width(30, 40, 0.5) == 25
