"""Linear layers with 8-bit weights in ONNX files, their inputs quantised as they come."""

import logging
from pathlib import Path
from typing import Any

from ..errors import MissingPackageError
from .formats.onnx_format import SCOPE_KEY

_PRODUCTS = ("MatMul", "Gemm")
# The products of these stay as they are: they decide about classes, masks and places. Attention
# scores stay too, as they are products of two inputs.
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
        op_types_to_quantize=list(_PRODUCTS),
        nodes_to_exclude=_nodes_of_heads(path),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    part.replace(path)


def _nodes_of_heads(path: Path) -> list[str]:
    """Return the names of the products that are kept in float32."""
    import onnx

    return [
        node.name
        for node in onnx.load(path).graph.node
        if node.op_type in _PRODUCTS and any(head in scope_of(node) for head in _HEADS)
    ]


def scope_of(node: Any) -> str:
    """Return the modules that a node of an exported graph comes from."""
    return next((p.value for p in node.metadata_props if p.key == SCOPE_KEY), "")
