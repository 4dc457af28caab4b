"""Recommend numbers of a config from what is in a dataset."""

import math
from collections import Counter

from .records import Kind, Tally

_FEWEST_QUERIES = 20
_SIDE = 16  # pixels of an object's side from which on its mask, at a quarter of that, has a shape
_SIZES = (128, 1024)  # smallest and largest INPUT.IMAGE_SIZE
_MOST_POINTS = 12544  # as published
_MASK_STRIDE = 4
_SQUARES: tuple[Kind, ...] = ("instance", "panoptic")  # whose photos train as squares of IMAGE_SIZE


def recommend(tally: Tally, kind: Kind = "instance") -> dict[str, int]:
    """Return values of keys that suit a dataset of a kind; empty where there is no object.

    - Queries: as many as the fullest image has objects, and half as many again as 99 of 100 images
      have.
    - Image size: at which the sides of 95 of 100 objects have 16 pixels or more, but no larger than
      half of the photos are. Semantic and video trainings do not read that key, and get none.
    - Points: as many as a mask of that size has pixels, at most the published number.
    """
    if not tally.counts.total() or not tally.sides.total():
        return {}
    most = max(tally.counts)
    usual = percentile(tally.counts, 99)
    queries = max(_FEWEST_QUERIES, most, math.ceil(1.5 * usual))
    longer = Counter({max(size): 0 for size in tally.sizes})
    for size, count in tally.sizes.items():
        longer[max(size)] += count
    wanted = _SIDE * 1000 / max(percentile(tally.sides, 5), 1)
    size = min(max(wanted, _SIZES[0]), max(percentile(longer, 50), _SIZES[0]), _SIZES[1])
    size = math.ceil(size / 32) * 32
    points = min((size // _MASK_STRIDE) ** 2, _MOST_POINTS)
    return {
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": math.ceil(queries / 10) * 10,
        **({"INPUT.IMAGE_SIZE": size} if kind in _SQUARES else {}),
        "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": points,
    }


def percentile(counts: Counter[int], percent: float) -> int:
    """Return the smallest value that ``percent`` (0 to 100) of the counted ones do not exceed.

    Raises:
        ValueError: nothing was counted.
    """
    wanted, seen = counts.total() * percent / 100, 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    raise ValueError("there is nothing to count")
