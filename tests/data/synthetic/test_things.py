"""Outlines of things, on values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from mask2former.data.synthetic.things import Pose, footprint, random_thing


def _thing(kind: str, radius: float = 10.0):
    thing = random_thing(np.random.default_rng(0), unit=1.0)
    return replace(thing, kind=kind, radius=radius, aspect=1.0)


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("disc", np.pi * 9.5**2),
        ("square", 2 * 12.0**2),  # corners at 1.2 radii
        ("triangle", 3 * np.sqrt(3) / 4 * 12.5**2),
        ("star", 10 * 0.5 * 11.5 * 5.2 * np.sin(np.pi / 5)),
        ("ring", np.pi * (10.0**2 - 5.5**2)),
        ("cross", 2 * 20.0 * 6.8 - 6.8**2),
    ],
)
def test_area_is_that_of_the_outline(kind, area):
    where = footprint(_thing(kind), Pose(32.3, 31.8, 0.4), 64, 64)
    assert where.cover.sum() == pytest.approx(area, rel=0.02)
    assert where.mask.sum() == where.area
    assert where.area == pytest.approx(area, rel=0.03)


def test_square_fills_the_pixels_it_covers():
    """Corners at 1.2 radii: turned by 45 degrees, a radius of 5 / 1.2 * sqrt(2) gives side 10."""
    square = _thing("square", radius=5 * np.sqrt(2) / 1.2)
    where = footprint(square, Pose(20.0, 16.0, np.pi / 4), 40, 40)
    mask = np.zeros((40, 40), bool)
    mask[where.rows, where.cols] = where.mask
    rows, cols = np.nonzero(mask)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (11, 20, 15, 24)
    assert mask.sum() == 100


def test_ring_has_a_hole_and_disc_has_none():
    for kind, filled in (("ring", False), ("disc", True)):
        where = footprint(_thing(kind), Pose(20.5, 20.5, 0.0), 41, 41)
        assert where.mask[20 - where.rows.start, 20 - where.cols.start] == filled


@pytest.mark.parametrize("pose", [Pose(-40, 20, 0), Pose(20, -40, 0), Pose(90, 90, 0)])
def test_a_thing_outside_of_the_image_has_an_empty_footprint(pose):
    assert footprint(_thing("disc"), pose, 48, 48).cover.size == 0


def test_the_border_cuts_a_thing():
    where = footprint(_thing("disc"), Pose(0.0, 24.0, 0.0), 48, 48)
    assert where.mask.sum() == pytest.approx(where.area / 2, rel=0.05)
