"""Nested values to plain json and named tensors, and back, without pickle."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import Tensor

from ...errors import UserError

Tensors = dict[str, Tensor]

# Classes of detectron2 that hold one tensor.
_HOLDERS: dict[str, Any] = {"bitmasks": BitMasks, "boxes": Boxes}


def pack(value: Any, tensors: Tensors) -> Any:
    """Return a value as plain json, and put its tensors into ``tensors``.

    Known are numbers, text, lists, tuples, mappings, tensors, arrays, and detectron2's Instances,
    BitMasks, Boxes and PolygonMasks. Of other values the name of the class is kept.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}  # json lacks those that are not finite
    if isinstance(value, Tensor):
        return {"tensor": _add(value.detach(), tensors)}
    if isinstance(value, np.generic):
        return pack(value.item(), tensors)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return {"array": _add(torch.from_numpy(np.ascontiguousarray(value)), tensors)}
    if isinstance(value, list):
        return {"list": [pack(item, tensors) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [pack(item, tensors) for item in value]}
    if isinstance(value, Mapping):
        items = [[pack(k, tensors), pack(v, tensors)] for k, v in value.items()]
        return {"mapping": items}
    if isinstance(value, Instances):
        fields = pack(value.get_fields(), tensors)
        return {"instances": list(value.image_size), "fields": fields}
    if isinstance(value, PolygonMasks):
        return {"polygons": pack(value.polygons, tensors)}
    for name, kind in _HOLDERS.items():
        if isinstance(value, kind):
            return {name: _add(value.tensor, tensors)}
    return {"left out": type(value).__name__}


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `pack` was given; None for what it left out.

    Raises:
        UserError: it is not of that form.
    """
    if packed is None or isinstance(packed, bool | int | str):
        return packed
    try:
        return _unpack(packed, tensors)
    except (
        AssertionError,
        AttributeError,
        KeyError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(f"expected a value as it was saved, got {packed!r:.200}") from error


def _unpack(packed: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    kind, content = next(iter(packed.items()))
    if kind == "float":
        return float(content)
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind in ("list", "tuple"):
        items = [unpack(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "mapping":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in content}
    if kind == "instances":
        return Instances(tuple(content), **unpack(packed["fields"], tensors))
    if kind == "polygons":
        return PolygonMasks(unpack(content, tensors))
    return _HOLDERS[kind](tensors[content]) if kind != "left out" else None


def _add(tensor: Tensor, tensors: Tensors) -> str:
    name = f"{len(tensors)}"
    tensors[name] = tensor.cpu()
    return name
