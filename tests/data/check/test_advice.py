"""Recommendations from what was counted, by hand."""

from collections import Counter

import pytest

from mask2former.data.check.advice import percentile, recommend
from mask2former.data.check.records import Tally


def test_percentile() -> None:
    counts = Counter({3: 98, 5: 1, 40: 1})
    assert [percentile(counts, p) for p in (1, 98, 99, 100)] == [3, 3, 5, 40]
    with pytest.raises(ValueError, match="nothing to count"):
        percentile(Counter(), 50)


@pytest.mark.parametrize(
    ("counts", "queries"),
    [({2: 10}, 20), ({60: 100}, 90), ({10: 99, 61: 1}, 70), ({100: 1}, 150)],
)
def test_queries_have_room_for_all_objects(counts: dict[int, int], queries: int) -> None:
    tally = Tally(counts=Counter(counts), sides=Counter({100: 5}), sizes=Counter({(480, 640): 9}))
    assert recommend(tally)["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"] == queries


@pytest.mark.parametrize(
    ("side", "photo", "size"),
    [
        (100, 640, 160),  # a tenth of the photo: 16 pixels of 160
        (25, 1000, 640),
        (10, 1000, 1024),  # 1600 pixels would be needed, which is more than the photo has
        (10, 4000, 1024),
        (900, 4000, 128),
        (100, 100, 128),
    ],
)
def test_sizes_show_small_objects(side: int, photo: int, size: int) -> None:
    sides = Counter({side: 90, 1: 4, 1000: 6})  # fewer than 5 of 100 are smaller
    tally = Tally(counts=Counter({1: 1}), sides=sides, sizes=Counter({(50, photo): 2, (5, 5): 1}))
    found = recommend(tally)
    assert found["INPUT.IMAGE_SIZE"] == size
    points = min((size // 4) ** 2, 12544)
    assert found["MODEL.MASK_FORMER.TRAIN_NUM_POINTS"] == points


@pytest.mark.parametrize("kind", ["semantic", "video"])
def test_no_size_for_trainings_that_do_not_read_it(kind: str) -> None:
    tally = Tally(counts=Counter({2: 1}), sides=Counter({25: 2}), sizes=Counter({(9, 1000): 1}))
    assert recommend(tally, kind) == {
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 20,
        "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 12544,
    }
    assert "INPUT.IMAGE_SIZE" in recommend(tally, "panoptic")


def test_nothing_without_objects() -> None:
    assert recommend(Tally(sizes=Counter({(5, 5): 1}))) == {}
