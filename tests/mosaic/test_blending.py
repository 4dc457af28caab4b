"""Semantic scores of tiles, blended: exact where tiles agree, between them where they do not."""

import numpy as np
import pytest

from mask2former.mosaic import Grid, Tiling
from mask2former.mosaic.blending import Blender, _taper

SIZES = [(28, 28), (16, 16), (40, 23), (5, 60), (61, 33)]


def blend(grid, scores_of, threshold=0.0):
    """Return the labels (H, W) of scores that a function gives for each tile."""
    blender, labels = Blender(grid, threshold), np.full(grid.size, -9)
    for tile in grid:
        part = labels[tile.y.done, tile.x.done]
        assert (part == -9).all()
        part[:] = blender.add(tile, scores_of(tile))
    return labels


@pytest.mark.parametrize("size", SIZES)
def test_scores_of_one_field_give_its_labels(size):
    field = np.random.default_rng(0).random((5, *size), np.float32)
    grid = Grid(size, Tiling(16, 6))
    labels = blend(grid, lambda tile: field[:, tile.y.predicted, tile.x.predicted])
    assert (labels == field.argmax(0)).all()


@pytest.mark.parametrize("size", SIZES)
def test_weights_add_up_to_one(size):
    # Class 0 has what is blended of 1, class 1 a little more or less than 1 everywhere.
    grid = Grid(size, Tiling(16, 6))
    for rest, winner in ((1 - 1e-5, 0), (1 + 1e-5, 1)):
        sums = np.zeros(size)
        for tile in grid:
            sums[tile.y.used, tile.x.used] += np.outer(_taper(tile.y), _taper(tile.x))
        assert np.allclose(sums, 1, atol=1e-6)
        ones = np.ones((2, 16, 16), np.float32) * np.array([1, rest], np.float32)[:, None, None]
        labels = blend(
            grid, lambda t, ones=ones: ones[:, : t.y.stop - t.y.start, : t.x.stop - t.x.start]
        )
        assert (labels == winner).all()


def test_tiles_that_disagree_meet_in_the_middle_of_what_they_share():
    grid = Grid((8, 24), Tiling(16, 8))
    left, right = (np.zeros((2, 8, 16), np.float32) for _ in range(2))
    left[0] = right[1] = 1
    labels = blend(grid, lambda tile: (left, right)[tile.column])
    assert (labels[:, :12] == 0).all() and (labels[:, 12:] == 1).all()


def test_the_threshold_is_that_of_blended_scores():
    grid = Grid((8, 24), Tiling(16, 8))
    left, right = (np.full((2, 8, 16), value, np.float32) for value in (0, 0))
    left[0] = right[1] = 1
    labels = blend(grid, lambda tile: (left, right)[tile.column], threshold=0.9)
    # Of the 8 shared columns only the outer ones have 15/16 of one class.
    assert (labels[0] == [0] * 9 + [-1] * 6 + [1] * 9).all()
