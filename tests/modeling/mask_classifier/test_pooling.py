"""Coverage and what a query sees: values worked out by hand, invariants, edges."""

import pytest
import torch

from mask2former.modeling.mask_classifier.pooling import (
    cells_inside,
    mask_coverage,
    pool,
    pooled_features,
)
from tests.modeling.mask_classifier.small import rectangles


def test_coverage_by_hand():
    masks = rectangles((0, 0, 4, 4), (2, 0, 6, 2), size=(8, 8))
    coverage = mask_coverage(masks, (8, 8), (8, 8), (2, 2))
    expected = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.25, 0.25], [0.0, 0.0]]])
    torch.testing.assert_close(coverage, expected)


def test_the_image_lies_at_the_upper_left_of_the_canvas():
    masks = rectangles((0, 0, 4, 4), size=(4, 4))
    coverage = mask_coverage(masks, (4, 4), (4, 8), (1, 2))
    torch.testing.assert_close(coverage, torch.tensor([[[1.0, 0.0]]]))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_resolution_of_the_mask_does_not_matter(factor: int):
    masks = rectangles((1, 2, 5, 7), (0, 0, 8, 3), size=(8, 8))
    larger = masks.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    plain = mask_coverage(masks, (8, 8), (16, 8), (4, 2))
    torch.testing.assert_close(mask_coverage(larger, (8, 8), (16, 8), (4, 2)), plain)


def test_one_pixel_of_a_large_mask_is_not_lost():
    masks = rectangles((70, 33, 71, 34), size=(100, 100))
    coverage = mask_coverage(masks, (25, 25), (32, 32), (1, 1))
    assert 0 < coverage.item() < 1e-3
    assert cells_inside(coverage.flatten(1)).all()


def test_total_area_is_kept_by_every_level():
    masks = rectangles((3, 5, 29, 17), size=(32, 32))
    fine = mask_coverage(masks, (32, 32), (32, 32), (8, 8))
    for size in ((4, 4), (2, 2), (1, 1)):
        coarse = pool(fine, size)
        share = coarse.sum() / (size[0] * size[1])
        assert share.item() == pytest.approx(26 * 12 / 32**2)


def test_no_masks():
    none = torch.zeros(0, 8, 8, dtype=torch.bool)
    assert mask_coverage(none, (8, 8), (8, 8), (2, 2)).shape == (0, 2, 2)


def test_cells_inside_by_hand():
    coverage = torch.tensor([[1.0, 0.5, 0.49, 0.0], [0.1, 0.05, 0.04, 0.0], [0.0, 0.0, 0.0, 0.0]])
    t, f = True, False
    expected = torch.tensor([[t, t, f, f], [t, t, f, f], [t, t, t, t]])
    assert torch.equal(cells_inside(coverage), expected)


def test_pooled_features_by_hand():
    features = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [5.0, 60.0]]])
    coverage = torch.tensor([[[1.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[2.0, 15.0], [4.0, 47.5], [0.0, 0.0]]])
    torch.testing.assert_close(pooled_features(coverage, features), expected)
