"""Names of classes in each way in which datasets count them."""

import pytest
from detectron2.data import Metadata

from mask2former.evaluation.class_names import class_name

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
