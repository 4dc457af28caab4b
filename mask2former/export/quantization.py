"""Linear layers with 8-bit weights in ONNX files, their inputs quantised as they come."""

import logging
from pathlib import Path

from ..errors import MissingPackageError

# Products whose weights belong to these stay as they are: they decide about classes and masks, and
# are small beside the rest. Attention scores are products of two inputs, and stay too.
_HEADS = ("class_embed", "mask_embed", "sampling_offsets", "attention_weights")


def quantize(path: Path) -> None:
    """Write an ONNX file anew with 8-bit weights, one scale a channel, in its linear layers.

    Raises:
        MissingPackageError: onnxruntime is missing.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingPackageError(
            "8-bit weights need onnxruntime: pip install mask2former[export]"
        ) from error
    logging.getLogger().getChild("onnxruntime").setLevel(logging.ERROR)
    part = path.with_suffix(".int8.onnx")
    quantize_dynamic(
        path,
        part,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=_nodes_of_heads(path),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    part.replace(path)


def _nodes_of_heads(path: Path) -> list[str]:
    """Return the names of the products that are kept in float32."""
    import onnx

    graph = onnx.load(path).graph
    weights = {x.name for x in graph.initializer if any(head in x.name for head in _HEADS)}
    made_of = dict.fromkeys(weights, True)
    for node in graph.node:  # weights may be transposed first
        if node.op_type in ("Transpose", "Reshape", "Cast") and made_of.get(node.input[0]):
            made_of[node.output[0]] = True
    return [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and any(made_of.get(x) for x in node.input)
    ]
