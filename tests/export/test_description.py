"""What an exported file says: switches of the model, category ids of the dataset."""

import pytest
from detectron2.data import Metadata

from mask2former.config import get_config
from mask2former.export.description import describe
from mask2former.export.graphs import ImageGraph
from tests.modeling.small import tiny_model


def config():
    cfg = get_config()
    cfg.INPUT.FORMAT = "RGB"
    return cfg


@pytest.mark.parametrize("output", ["scores", "labels"])
def test_switches_are_those_of_the_model(output):
    model = tiny_model(semantic_output=output, object_mask_threshold=0.7)
    found = describe(ImageGraph(model), config(), None)
    assert found.semantic_output == output and found.object_mask_threshold == 0.7
    assert found.semantic_on and found.panoptic_on and found.instance_on and found.topk == 5


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, ()),
        ({"sem_seg_labels": [7, 9, 4]}, ((7, 0), (9, 1), (4, 2))),
        ({"sem_seg_labels": [0, 1, 2]}, ()),
        ({"stuff_dataset_id_to_contiguous_id": {5: 0, 6: 1, 8: 2}}, ((5, 0), (6, 1), (8, 2))),
        (
            {"stuff_dataset_id_to_contiguous_id": {5: 0, 6: 1}, "sem_seg_labels": [7, 9, 4]},
            ((5, 0), (6, 1)),
        ),
    ],
)
def test_category_ids_of_stuff(entries, expected):
    dataset = Metadata(name="a dataset", stuff_classes=["a", "b", "c"], **entries)
    assert describe(ImageGraph(tiny_model()), config(), dataset).stuff_categories == expected
