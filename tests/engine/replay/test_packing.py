"""Values of a batch survive as json and tensors."""

import json
import math

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from mask2former.engine.replay.packing import pack, unpack
from mask2former.errors import UserError


def there_and_back(value):
    tensors = {}
    text = json.dumps(pack(value, tensors), allow_nan=False)
    return unpack(json.loads(text), tensors)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, "text", 0.1, [1, (2, "a"), []], {"a": {1: 2.5}, 3: None}, -math.inf],
)
def test_plain_values(value):
    back = there_and_back(value)
    assert back == value and type(back) is type(value)


def test_numbers_that_json_lacks():
    assert math.isnan(there_and_back([math.nan])[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32, torch.bfloat16])
def test_tensors_keep_type_and_shape(dtype):
    value = torch.arange(6).reshape(2, 3).to(dtype)
    back = there_and_back({"x": [value, value[:0]]})["x"]
    assert back[0].dtype == dtype and torch.equal(back[0], value)
    assert back[1].shape == (0, 3)
    array = np.arange(4, dtype=np.float32)
    assert np.array_equal(there_and_back(array), array)


def test_objects_of_images():
    x = Instances((4, 5))
    x.gt_classes = torch.tensor([1, 2])
    x.gt_masks = BitMasks(torch.rand(2, 4, 5) > 0.5)
    x.gt_boxes = Boxes(torch.rand(2, 4))
    x.polygons = PolygonMasks([[np.array([0.0, 0, 1, 0, 1, 1])]] * 2)
    back = there_and_back([x])[0]
    assert back.image_size == (4, 5)
    assert torch.equal(back.gt_masks.tensor, x.gt_masks.tensor)
    assert torch.equal(back.gt_boxes.tensor, x.gt_boxes.tensor)
    assert np.array_equal(back.polygons.polygons[1][0], x.polygons.polygons[1][0])


def test_others_are_left_out():
    assert there_and_back([object(), 1]) == [None, 1]


@pytest.mark.parametrize(
    "packed", [{"tensor": "9"}, {"eval": "1"}, {"list": 3}, {"mapping": [[1]]}, {}, [1], 0.5]
)
def test_damaged(packed):
    with pytest.raises(UserError, match="expected a value as it was saved"):
        unpack(packed, {})


def test_fields_of_unequal_lengths_are_damage():
    tensors = {"0": torch.zeros(2), "1": torch.zeros(3)}
    fields = {"mapping": [["a", {"tensor": "0"}], ["b", {"tensor": "1"}]]}
    with pytest.raises(UserError, match="expected a value as it was saved"):
        unpack({"instances": [4, 5], "fields": fields}, tensors)
