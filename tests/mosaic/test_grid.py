"""Where tiles lie: by hand, and what holds for all sizes."""

from itertools import pairwise

import numpy as np
import pytest

from mask2former.errors import UserError
from mask2former.mosaic import Grid, Tiling
from mask2former.mosaic.grid import Span, spans


def test_three_tiles_by_hand():
    # The last one would begin at 20 and end at 50; it is moved back to 12. What it shares with the
    # first, up to 16, is not used.
    first, second, last = spans(28, Tiling(16, 6))
    assert first == Span(0, 16, begin=0, own=0, own_stop=13, next_begin=10, last_stop=0)
    assert second == Span(10, 26, begin=10, own=13, own_stop=21, next_begin=16, last_stop=16)
    assert last == Span(12, 28, begin=16, own=21, own_stop=28, next_begin=28, last_stop=26)


def test_an_image_that_is_smaller_than_a_tile():
    (tile,) = Grid((5, 7), Tiling(16, 4))
    assert (tile.y.predicted, tile.x.predicted) == (slice(0, 5), slice(0, 7))
    assert tile.y.cell == tile.y.used == tile.y.done == slice(0, 5)


@pytest.mark.parametrize("tiling", [Tiling(8, 1), Tiling(8, 4), Tiling(9, 4), Tiling(16, 5)])
def test_tiles_cover_each_pixel_as_often_as_they_should(tiling):
    for length in range(1, 80):
        found = spans(length, tiling)
        counts = {"cell": 0, "done": 0, "used": 0}
        for name in counts:
            pixels = np.zeros(length, int)
            for span in found:
                pixels[getattr(span, name)] += 1
            limit = 2 if name == "used" else 1  # only neighbours overlap
            assert pixels.min() == 1 and pixels.max() <= limit, (length, name)
        assert {s.stop - s.start for s in found} == {min(tiling.size, length)}
        for before, after in pairwise(found):
            assert before.stop - after.begin >= tiling.overlap
            assert after.begin <= before.own_stop <= before.stop


def test_neighbours_of_a_corner_and_of_the_middle():
    grid = Grid((30, 30), Tiling(12, 3))
    tiles = list(grid)
    assert len(tiles) == len(grid) == 9
    assert [(t.row, t.column) for t in grid.neighbours(tiles[0])] == [(0, 1), (1, 0), (1, 1)]
    assert len(list(grid.neighbours(tiles[4]))) == 8


@pytest.mark.parametrize(("size", "overlap"), [(16, 0), (16, 9), (8, 16), (0, 0), (-4, 1)])
def test_tiles_that_do_not_go_together(size, overlap):
    with pytest.raises(UserError, match=f"got tiles of {size} pixels and an overlap of {overlap}"):
        Tiling(size, overlap)


def test_the_overlap_is_a_quarter_where_none_is_given():
    assert Tiling.of(128) == Tiling(128, 32)
    assert Tiling.of(128, 20) == Tiling(128, 20)
