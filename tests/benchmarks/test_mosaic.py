"""The mosaic of the benchmark, and how its results are scored."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.mosaic import SIDE, Result, Truth, draw, scores
from mask2former.formats.rle import encode_segments


@pytest.fixture(scope="module")
def truth() -> Truth:
    return draw(2, seed=3)


def right(truth: Truth) -> Result:
    things = {c["id"] for c in truth.categories if c["isthing"]}
    objects = [s for s in truth.segments if s["category_id"] in things]
    rles = encode_segments(truth.ids, [s["id"] for s in objects])
    instances = [
        {"image_id": 1, "category_id": s["category_id"], "score": 0.9, "segmentation": rle}
        for s, rle in zip(objects, rles, strict=True)
    ]
    return Result(truth.ids, truth.segments, instances)


def test_pictures_lie_side_by_side_and_stuff_is_one_segment(truth: Truth) -> None:
    assert truth.image.shape == (2 * SIDE, 2 * SIDE, 3)
    assert set(np.unique(truth.ids)) == {s["id"] for s in truth.segments}
    things = {c["id"] for c in truth.categories if c["isthing"]}
    stuff = [s["category_id"] for s in truth.segments if s["category_id"] not in things]
    assert len(stuff) == len(set(stuff))
    corners = [truth.image[y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)]
    assert all(corner.std() > 1 for corner in corners)
    assert not np.array_equal(corners[0], corners[3])


def test_the_truth_scores_100(truth: Truth) -> None:
    assert scores(truth, right(truth)) == pytest.approx((100, 100))


def test_what_is_missing_costs(truth: Truth) -> None:
    found = right(truth)
    quality, average = scores(truth, found._replace(ids=None, instances=found.instances[1:]))
    assert math.isnan(quality) and average < 100
    kept = truth.ids.copy()
    kept[kept == truth.segments[0]["id"]] = 0
    quality, _ = scores(truth, found._replace(ids=kept, segments=truth.segments[1:]))
    assert quality < 100
