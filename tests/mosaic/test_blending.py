"""Semantic scores of tiles, blended: exact where tiles agree, between them where they do not."""

import tracemalloc

import numpy as np
import pytest

from mask2former.mosaic import Grid, Tiling
from mask2former.mosaic.blending import _LIKELY, Blender, _Likely, _taper

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


def exact(grid, scores_of, num_classes):
    """Return the scores of the whole image, blended at once."""
    sums = np.zeros((num_classes, *grid.size))
    for tile in grid:
        used = (slice(None), *tile.local(tile.y.used, tile.x.used))
        weights = np.outer(_taper(tile.y), _taper(tile.x))
        sums[:, tile.y.used, tile.x.used] += scores_of(tile)[used] * weights
    return sums


@pytest.mark.parametrize("threshold", [0.0, 0.4])
@pytest.mark.parametrize("num_classes", [1, 3, 6, 40])
def test_labels_are_those_of_all_scores_blended(num_classes, threshold):
    """Of tiles that disagree; with more classes than wait, up to pixels of great doubt."""
    grid = Grid((61, 33), Tiling(16, 6))
    random = np.random.default_rng(1)
    field = random.standard_normal((num_classes, *grid.size))
    noise = {(t.row, t.column): random.standard_normal((num_classes, 16, 16)) for t in grid}

    def scores_of(tile):
        seen = field[:, tile.y.predicted, tile.x.predicted] + noise[tile.row, tile.column]
        return (np.exp(2 * seen) / np.exp(2 * seen).sum(0)).astype(np.float32)

    sums = exact(grid, scores_of, num_classes)
    expected = sums.argmax(0)
    expected[sums.max(0) < threshold * sums.sum(0)] = -1
    labels = blend(grid, scores_of, threshold)
    chosen = np.take_along_axis(sums, labels[None], 0)[0] / sums.max(0)
    if num_classes <= _LIKELY:
        assert (labels == expected).all()
    else:
        assert (labels == expected).mean() > 0.995 and chosen[labels >= 0].min() > 0.8


def test_what_waits_are_the_highest_scores_and_the_mean_of_the_others():
    scores = np.array([3, 9, 1, 5, 4, 2, 8, 7], np.float32).reshape(8, 1, 1)
    sums = np.ones((8, 2, 1), np.float32)
    _Likely.of(scores).add_to(sums)
    assert sums[:, 0, 0].tolist() == [4, 10, 2.5, 6, 5, 2.5, 9, 8]  # the others have 1.5
    assert (sums[:, 1] == 1).all()
    few = np.zeros((3, 1, 1), np.float32)
    _Likely.of(scores[:3]).add_to(few)
    assert (few == scores[:3]).all()


def test_memory_of_a_wide_image_does_not_grow_with_the_classes():
    grid, peaks = Grid((96, 6000), Tiling(64, 32)), []
    for num_classes in (8, 64):
        scores = np.zeros((num_classes, 64, 64), np.float32)
        blender = Blender(grid)
        tracemalloc.start()
        for tile in grid:
            blender.add(tile, scores)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    in_work = 12 * scores.nbytes
    assert peaks[1] < peaks[0] + in_work  # less than the 49 million bytes of all in the strip
    assert in_work < 64 * 32 * 6000 * 4 / 3
