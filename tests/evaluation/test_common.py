"""Ids and names of classes: values worked out by hand, and errors."""

import pytest
from detectron2.data import Metadata

from mask2former.evaluation import InstanceSegEvaluator, YTVISEvaluator
from mask2former.evaluation.common import DatasetIds, class_name


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


ALL = {
    "stuff_classes": ["sky", "cat", "sea", "dog"],
    "thing_classes": ["cat", "dog"],
    "thing_dataset_id_to_contiguous_id": {3: 1, 8: 3},
}
SEPARATED = {
    "stuff_classes": ["things", "sky", "sea"],
    "thing_classes": ["cat", "dog"],
    "thing_dataset_id_to_contiguous_id": {3: 0, 8: 1},
}
THINGS = {"thing_classes": ["cat", "dog"]}
STUFF = {"stuff_classes": ["sky", "sea"]}


@pytest.mark.parametrize(
    ("entries", "label", "is_thing", "name"),
    [
        (ALL, 1, True, "cat"),
        (ALL, 3, True, "dog"),
        (ALL, 2, False, "sea"),
        (ALL, 3, False, "dog"),  # a semantic result may say it
        (ALL | {"thing_classes": ALL["stuff_classes"]}, 3, True, "dog"),
        (SEPARATED, 0, True, "cat"),
        (SEPARATED, 1, True, "dog"),
        (SEPARATED, 1, False, "sky"),
        (THINGS, 1, True, "dog"),
        (THINGS, 0, False, "cat"),
        (STUFF, 1, False, "sea"),
        (STUFF, 1, True, "sea"),
        (STUFF, 2, False, "2"),
        ({}, 5, True, "5"),
    ],
)
def test_names(entries: dict, label: int, is_thing: bool, name: str) -> None:
    assert class_name(Metadata(**entries), label, is_thing) == name


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (InstanceSegEvaluator, "_eval_predictions"),
        (InstanceSegEvaluator, "_derive_coco_results"),
        (YTVISEvaluator, "_derive_coco_results"),
    ],
)
def test_steps_of_detectron2_s_evaluator_are_refused_in_subclasses(base, name):
    own = type("Own", (base,), {name: lambda self, *args: {}})
    with pytest.raises(TypeError, match=f"Own overrides {name}, .* Override evaluate."):
        own("unknown dataset")
    own.evaluate = lambda self: {}
    with pytest.raises((KeyError, AttributeError), match="unknown dataset"):  # goes on to it
        own("unknown dataset")
