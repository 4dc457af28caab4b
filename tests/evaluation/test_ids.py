"""Ids: values worked out by hand, and the error."""

import pytest

from mask2former.evaluation.ids import DatasetIds, ids_in_order


def test_maps_back():
    ids = DatasetIds({7: 0, 9: 3}, "data", "thing")
    assert (ids[0], ids[3]) == (7, 9)
    assert 3 in ids and 1 not in ids
    with pytest.raises(ValueError, match="class 1 is not among the 2 thing classes of data"):
        ids[1]


def test_without_a_map_ids_stay():
    ids = DatasetIds(None, "data", "stuff")
    assert ids[5] == 5 and 5 in ids


def test_ids_in_order():
    assert ids_in_order([{"id": 9}, {"id": 2}]) == {2: 0, 9: 1}
