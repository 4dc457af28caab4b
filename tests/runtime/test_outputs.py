"""Outputs of files whose graph is not the one that their metadata describe."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mask2former.errors import UserError
from mask2former.runtime import Runtime, metadata
from mask2former.runtime.outputs import Outputs
from tests.runtime.exported import write_file
from tests.runtime.onnx_models import halves, write_model

IMAGES = {"images": np.zeros((2, 3, 32, 64), np.float32)}
GIVEN = IMAGES | {"masks": np.zeros((2, 5, 32, 64), np.float32)}


def floats(*shape):
    return np.zeros(shape, np.float32)


def whole(*shape, value=0):
    return np.full(shape, value, np.int32)


@pytest.mark.parametrize(
    "values, inputs, sound, wrong",
    [
        (
            {"kind": "image"},
            IMAGES,
            [floats(2, 7, 4), floats(2, 7, 8, 16)],
            {
                "class_logits (2, Q, 4)": [floats(2, 7, 5), floats(2, 7, 8, 16)],
                "class_logits (2, Q, 4) ": [whole(2, 7, 4), floats(2, 7, 8, 16)],
                "mask_logits (2, 7, h, w)": [floats(2, 7, 4), floats(2, 8, 8, 16)],
                "mask_logits (2, 7, h, w) ": [floats(2, 7, 4), floats(2, 7, 0, 16)],
                "mask_logits (2, 7, h, w) of ": [floats(2, 7, 4), [floats(7, 8, 16)] * 2],
            },
        ),
        (
            {"kind": "clip", "embeddings": True},
            IMAGES,
            [floats(7, 4), floats(7, 2, 8, 16), floats(7, 9)],
            {
                "mask_logits (7, 2, h, w)": [floats(7, 4), floats(7, 1, 8, 16), floats(7, 9)],
                "embeddings (7, C)": [floats(7, 4), floats(7, 2, 8, 16), floats(6, 9)],
            },
        ),
        (
            {"kind": "per_pixel"},
            IMAGES,
            [floats(2, 3, 8, 16)],
            {"semantic_logits (2, 3, h, w)": [floats(2, 4, 8, 16)]},
        ),
        (
            {"kind": "given_masks"},
            GIVEN,
            [floats(2, 5, 4)],
            {"class_logits (2, 5, 4)": [floats(2, 4, 4)]},
        ),
        (
            {"kind": "image", "postprocess": "semantic"},
            IMAGES,
            [whole(2, 32, 64, value=2)],
            {
                "class_map (2, 32, 64) of whole": [whole(2, 32, 60)],
                "class_map from -1 to 2, as its metadata say, got 3 to 3": [
                    whole(2, 32, 64, value=3)
                ],
            },
        ),
        (
            {"kind": "image", "postprocess": "panoptic"},
            IMAGES,
            [whole(2, 32, 64, value=1), whole(2, 7), whole(2, value=1)],
            {
                "count from 0 to 7": [whole(2, 32, 64), whole(2, 7), whole(2, value=8)],
                "classes from 0 to 2": [whole(2, 32, 64), whole(2, 7, value=3), whole(2, value=1)],
                "segment_ids from 0 to 1": [
                    whole(2, 32, 64, value=2),
                    whole(2, 7),
                    whole(2, value=1),
                ],
            },
        ),
        (
            {"kind": "image", "postprocess": "instance"},
            IMAGES,
            [whole(2, 7, 32, 64), floats(2, 7, 4), floats(2, 7), whole(2, 7), whole(2, value=7)],
            {
                "boxes (2, 7, 4) of floating": [
                    *(whole(2, 7, 32, 64), floats(2, 7, 3), floats(2, 7), whole(2, 7), whole(2))
                ],
                "classes from 0 to 2": [
                    *(whole(2, 7, 32, 64), floats(2, 7, 4), floats(2, 7)),
                    *(whole(2, 7, value=-1), whole(2, value=7)),
                ],
            },
        ),
    ],
    ids=["image", "clip", "per_pixel", "given_masks", "semantic", "panoptic", "instance"],
)
def test_outputs_have_the_shapes_types_and_values_of_the_metadata(
    tmp_path, values, inputs, sound, wrong
):
    written = write_file(tmp_path / "a.onnx", **values)  # with three classes
    check = Outputs("a.onnx", written).check
    check(inputs, sound)
    for message, found in wrong.items():
        with pytest.raises(UserError, match=f"a.onnx: expected {re.escape(message.strip())}"):
            check(inputs, found)


def changed(path: Path, change) -> Path:
    """Write a model whose graph is changed, with a digest that is right all the same."""
    onnx = pytest.importorskip("onnx", reason="onnx is missing: pip install onnx")
    pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install onnxruntime")
    write_model(path)
    model = onnx.load(path)
    change({tensor.name: tensor for tensor in model.graph.initializer}, onnx)
    path.write_bytes(model.SerializeToString())
    metadata.write(path, replace(metadata.read(path, verify=False), digest=""))
    return path


@pytest.mark.parametrize("kernel", [(2, 4, 1, 1), (3, 3, 1, 1)])
def test_graphs_that_fail_or_give_something_else(tmp_path, kernel):
    """With 4 channels the convolution fails; three masks do not go with two queries."""

    def change(tensors, onnx):
        weight = onnx.numpy_helper.from_array(np.zeros(kernel, np.float32), "weight")
        tensors["weight"].CopyFrom(weight)

    runtime = Runtime(changed(tmp_path / "a.onnx", change))
    with pytest.raises(UserError, match=r"a\.onnx: (onnxruntime cannot run|expected mask_logits)"):
        runtime(halves())


@pytest.mark.parametrize("place", ["../secret.bin", "link.bin", "{folder}/secret.bin", "/dev/zero"])
def test_weights_outside_of_the_folder_are_not_read(tmp_path, place):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")

    def change(tensors, onnx):
        weight = tensors["weight"]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=place.format(folder=tmp_path))

    path = changed(folder / "a.onnx", change)
    with pytest.raises(UserError, match="External data path"):
        Runtime(path)
