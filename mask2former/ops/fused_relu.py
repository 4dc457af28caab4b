"""ReLUs, and sums before them, in the pass that computes what they are applied to.

In eval on CPUs a residual block spends a good part of its time on reading and writing its result
anew for the sum and for the ReLU. oneDNN does both before it writes the result.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear import (
    as_computed,
    computed_type,
    conv2d,
    is_preferred_for,
    linear,
    onednn_is_wanted,
    probe,
    works,
)

Pair = tuple[int, int]


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of `F.linear`: x (..., I) times the transpose of weight (O, I), plus bias (O,)."""
    if not _fuses(x, weight):
        # In place only without gradients: those of a view, which this may be, would be copied.
        return F.relu(linear(x, weight, bias), inplace=not torch.is_grad_enabled())
    x, weight, bias = as_computed(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    out = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "relu", [], "")
    return out.view(*x.shape[:-1], len(weight))


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
        weight, bias, stride, padding, dilation, groups: as for `F.conv2d`; numbers in pairs.
        add: of the result's shape and type.
        overwrite: whether nobody else needs `add`, so that it may become the result.

    Returns:
        (B, C', H', W').
    """
    if not _fuses(x, weight) or (add is not None and not _sums(x, add, groups)):
        out = conv2d(x, weight, bias, stride, padding, dilation, groups)
        return F.relu_(out if add is None else out.add_(add))
    x, weight, bias, add = as_computed(x, weight, bias, add)
    rest = (weight, bias, padding, stride, dilation, groups)
    if add is None:
        return torch.ops.mkldnn._convolution_pointwise(x, *rest, "relu", [], "")
    if overwrite:
        return torch.ops.mkldnn._convolution_pointwise_.binary(add, x, *rest, *_ADD_RELU)
    return torch.ops.mkldnn._convolution_pointwise.binary(x, add, *rest, *_ADD_RELU)


_ADD_RELU: tuple = ("add", 1.0, "relu", [], "")


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to do all in one pass."""
    dtype = computed_type(x)
    return (
        onednn_is_wanted()
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and dtype == computed_type(weight)
        and dtype in (torch.float32, torch.bfloat16)
        and is_preferred_for(dtype)
        and _is_there(dtype)
    )


def _sums(x: Tensor, add: Tensor, groups: int) -> bool:
    """Whether a sum is done in the pass too: for others PyTorch's operator falls back on one that
    does not know 16 bits."""
    return groups == 1 and _has_channels_last(x) and _has_channels_last(add)


def _has_channels_last(x: Tensor) -> bool:
    """Whether channels come last and not, as in maps of one pixel, first as well."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


@lru_cache(maxsize=2)
def _is_there(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the operators as we call them, and this processor the type."""
    x = probe((1, 2, 2, 2), dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = probe((2, 2, 1, 1), dtype), probe((2,), dtype)
    rest = (weight, bias, [0, 0], [1, 1], [1, 1], 1)

    def attempt() -> None:
        torch.ops.mkldnn._linear_pointwise(x[0, 0], weight[..., 0, 0], bias, "relu", [], "")
        torch.ops.mkldnn._convolution_pointwise(x, *rest, "relu", [], "")
        torch.ops.mkldnn._convolution_pointwise.binary(x, x, *rest, *_ADD_RELU)
        torch.ops.mkldnn._convolution_pointwise_.binary(x.clone(), x, *rest, *_ADD_RELU)

    return works(dtype, attempt)
