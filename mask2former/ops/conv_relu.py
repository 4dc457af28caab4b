"""Convolution, sum and ReLU in one pass over the result, where oneDNN does that.

In eval on CPUs a residual block spends a good part of its time on reading and writing the result
anew for the sum and for the ReLU. oneDNN does both before it writes the result.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear import conv2d, onednn_is_wanted

Pair = tuple[int, int]


def conv2d_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    *,
    add: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """ReLU of `F.conv2d` and, if given, another map.

    Args:
        x: (B, C, H, W).
        weight, bias, stride, padding, dilation, groups: as for `F.conv2d`.
        add: of the result's shape.
        overwrite: whether `add` is needed by nobody else, so that it may become the result.

    Returns:
        (B, C', H', W').
    """
    if not _fuses(x, weight):
        out = conv2d(x, weight, bias, stride, padding, dilation, groups)
        return F.relu_(out if add is None else out.add_(add))
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        add = add if add is None else add.to(dtype)
    arguments = (x, weight, bias, padding, stride, dilation, groups)
    if add is None:
        return torch.ops.mkldnn._convolution_pointwise(*arguments, "relu", [], "")
    sum_and_relu = ("add", 1.0, "relu", [], "")
    if overwrite:
        return torch.ops.mkldnn._convolution_pointwise_.binary(add, *arguments, *sum_and_relu)
    x, *arguments = arguments
    return torch.ops.mkldnn._convolution_pointwise.binary(x, add, *arguments, *sum_and_relu)


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to do all in one pass."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or not onednn_is_wanted():
        return False
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
    return (autocast or weight.dtype == dtype) and _is_there(dtype)


@lru_cache(maxsize=8)
def _is_there(dtype: torch.dtype) -> bool:
    """Whether this PyTorch, on this processor, has the operators for a type."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    x, bias = torch.ones(1, 1, 1, 1, dtype=dtype), torch.zeros(1, dtype=dtype)
    place = ([0, 0], [1, 1], [1, 1], 1)
    try:
        torch.ops.mkldnn._convolution_pointwise(x, x, bias, *place, "relu", [], "")
        sum_and_relu = ("add", 1.0, "relu", [], "")
        torch.ops.mkldnn._convolution_pointwise.binary(x, x, x, bias, *place, *sum_and_relu)
        torch.ops.mkldnn._convolution_pointwise_.binary(x, x, x, bias, *place, *sum_and_relu)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True
