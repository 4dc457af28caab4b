"""ONNX files made by hand: a model that sees red and blue, for what needs onnxruntime."""

from pathlib import Path

import numpy as np
import pytest

from mask2former.runtime import Metadata, metadata

NAMES = ("red", "blue")
LOGIT = 8.0


def write_model(path: Path, *, dtype: str = "FLOAT", names: dict[str, str] | None = None, **values):
    """Write a model with two queries: the first finds red, a thing, the other blue, stuff.

    Mask logits are 8 where the mean of 4 x 4 pixels is nearer to the colour than to the other.

    Args:
        dtype: of the images.
        names: of outputs, to replace.
        values: of the metadata, to replace.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is missing: pip install onnx")
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    names = {"class_logits": "class_logits", "mask_logits": "mask_logits"} | (names or {})
    weight = np.array([[1, 0, -1], [-1, 0, 1]], np.float32)[:, :, None, None] * LOGIT / 255
    classes = np.array([[[9, 0, 0], [0, 9, 0]]], np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("AveragePool", ["floats"], ["means"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["means", "weight"], [names["mask_logits"]]),
        helper.make_node("Shape", ["images"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
        helper.make_node("Expand", ["classes", "shape"], [names["class_logits"]]),
    ]
    kind = getattr(onnx.TensorProto, dtype)
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "red_and_blue",
        [helper.make_tensor_value_info("images", kind, ["B", 3, "H", "W"])],
        [
            helper.make_tensor_value_info(names["class_logits"], floats, ["B", 2, 3]),
            helper.make_tensor_value_info(names["mask_logits"], floats, ["B", 2, "h", "w"]),
        ],
        [
            tensor(weight, "weight"),
            tensor(classes, "classes"),
            tensor(np.array([2, 3], np.int64), "rest"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    known = {
        "kind": "image",
        "class_names": NAMES,
        "thing_ids": (0,),
        "thing_categories": ((11, 0),),
        "stuff_categories": ((11, 0), (22, 1)),
        "channel_order": "RGB",
        "pixel_mean": (127.5,) * 3,
        "pixel_std": (1.0,) * 3,
        "size_divisibility": 32,
        "min_size": 0,
        "max_size": 0,
        "object_mask_threshold": 0.5,
        "overlap_threshold": 0.5,
        "topk": 2,
        "semantic_on": True,
        "panoptic_on": True,
        "instance_on": True,
    }
    return metadata.write(path, Metadata(**known | values))


def halves(height: int = 64, width: int = 96) -> np.ndarray:
    """Return an image whose left half is red and whose right half is blue."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = image[:, width // 2 :, 2] = 255
    return image
