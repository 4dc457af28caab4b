"""ReLUs, and sums before them, in the pass that computes what they are applied to.

In eval on CPUs a residual block spends a good part of its time on reading and writing its result
anew for the sum and for the ReLU. oneDNN does both before it writes the result: 4 % of an image of
800x1216 on a Zen 4 (1 % in bfloat16), 7 % on a Zen 5.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear import (
    ADD_RELU,
    as_computed,
    computed_type,
    conv2d,
    is_preferred_for,
    linear,
    onednn_is_wanted,
)

Pair = tuple[int, int]


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the ReLU of `F.linear`, of x (..., I), weight (O, I) and bias (O,)."""
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
    """Compute the ReLU of `F.conv2d` and, if given, another map.

    Args:
        x: (B, C, H, W).
        weight, bias, stride, padding, dilation, groups: as for `F.conv2d`; numbers in pairs.
        add: of the result's shape and type.
        overwrite: whether `add` is needed no more, so that it may become the result.

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
        return torch.ops.mkldnn._convolution_pointwise_.binary(add, x, *rest, *ADD_RELU)
    return torch.ops.mkldnn._convolution_pointwise.binary(x, add, *rest, *ADD_RELU)


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN is to do all in one pass."""
    dtype = computed_type(x)
    return (
        onednn_is_wanted()
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and dtype == computed_type(weight)
        and dtype in (torch.float32, torch.bfloat16)
        and is_preferred_for(dtype)
    )


def _sums(x: Tensor, add: Tensor, groups: int) -> bool:
    """Return whether a sum is done in the pass too: for others PyTorch's operator falls back on one
    that does not know 16 bits."""
    return groups == 1 and _has_channels_last(x) and _has_channels_last(add)


def _has_channels_last(x: Tensor) -> bool:
    """Return whether channels come last and not, as in maps of one pixel, first as well."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
