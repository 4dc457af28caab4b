"""Painting of frames: colours, outlines, enlargement and names, by their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from mask2former.pictures import Region
from mask2former.pictures.frames import paint_frame

RED = np.array([1.0, 0, 0])


def grey(size=(300, 400)) -> np.ndarray:
    return np.full((*size, 3), 100, np.uint8)


def region(size=(300, 400), rows=(100, 200), columns=(50, 150), name="") -> Region:
    mask = np.zeros(size, bool)
    mask[slice(*rows), slice(*columns)] = True
    return Region(mask, RED, name)


def test_inside_is_mixed_the_border_is_not_and_outside_stays():
    image = grey()
    picture = paint_frame(image, [region()])
    assert picture.shape == image.shape
    assert np.array_equal(image, grey())
    assert picture[110, 60].tolist() == pytest.approx([178, 50, 50], abs=1)
    assert picture[100, 60].tolist() == [255, 0, 0]
    assert picture[199, 149].tolist() == [255, 0, 0]
    outside = np.ones((300, 400), bool)
    outside[98:202, 48:152] = False
    assert (picture[outside] == 100).all()


def test_small_frames_are_enlarged_by_a_whole_number():
    picture = paint_frame(grey((100, 120)), [region((100, 120), (10, 90), (20, 110))])
    assert picture.shape == (300, 360, 3)
    assert picture[30 * 3, 20 * 3].tolist() == [255, 0, 0]
    assert picture[5, 5].tolist() == [100, 100, 100]


def test_names_stand_inside_and_within_the_frame():
    plain = paint_frame(grey(), [region()])
    named = paint_frame(grey(), [region(name="dog 98%")])
    changed = np.argwhere((plain != named).any(-1))
    assert len(changed) > 50
    assert (np.abs(changed.mean(0) - (150, 100)) < 25).all()
    at_edge = paint_frame(grey(), [region(rows=(0, 6), columns=(390, 400), name="a long name")])
    assert (at_edge[:30] > 180).all(-1).sum() > 20  # white letters


def test_regions_without_pixels_and_with_holes():
    empty = region(rows=(5, 5), name="nothing")
    assert np.array_equal(paint_frame(grey(), [empty]), grey())
    ring = region()
    ring.mask[140:160, 90:110] = False
    picture = paint_frame(grey(), [ring])
    assert picture[150, 100].tolist() == [100, 100, 100]
    assert picture[139, 100].tolist() == [255, 0, 0]
