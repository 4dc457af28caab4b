"""Ids: values worked out by hand, and the error."""

import pytest

from mask2former.evaluation.ids import DatasetIds


def test_maps_back():
    ids = DatasetIds({7: 0, 9: 3}, "data", "thing")
    assert (ids[0], ids[3]) == (7, 9)
    assert 3 in ids and 1 not in ids
    with pytest.raises(ValueError, match="class 1 is not among the 2 thing classes of data"):
        ids[1]


def test_without_a_map_ids_stay():
    ids = DatasetIds(None, "data", "stuff")
    assert ids[5] == 5 and 5 in ids


def test_things_without_metadata_are_in_order(register):
    categories = [{"id": 9}, {"id": 2}]
    ids = DatasetIds.of_things(register(), categories)
    assert (ids[0], ids[1]) == (2, 9)
    ids = DatasetIds.of_things(register(thing_dataset_id_to_contiguous_id={9: 4}), categories)
    assert ids[4] == 9 and 0 not in ids
