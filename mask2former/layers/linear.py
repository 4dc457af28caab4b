"""Modules whose linear maps go by `ops.linear`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from ..ops.fused_relu import linear_relu
from ..ops.linear import conv2d, linear, onednn_is_wanted


class Linear(nn.Linear):
    """PyTorch's layer, by the library that makes most of the processor."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)


def relu_of(layer: nn.Module, x: Tensor) -> Tensor:
    """ReLU of a linear layer's result; in one pass where that can be, without gradients."""
    if type(layer) is Linear and layer.bias is not None and may_be_fused(layer):
        return linear_relu(x, layer.weight, layer.bias)
    # In place only without gradients: those of a view, which this may be, would be copied.
    return F.relu(layer(x), inplace=not torch.is_grad_enabled())


def may_be_fused(*layers: nn.Module) -> bool:
    """Whether what layers compute may be computed without calling them: no gradients are wanted, no
    hooks wait for the calls, and nobody counts or records PyTorch's own operators."""
    return (
        not torch.is_grad_enabled()
        and onednn_is_wanted()
        and not _has_any_global_hook()
        and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    )


class PointwiseConv2d(nn.Conv2d):
    """PyTorch's layer with a kernel of one pixel, likewise."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        return conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


def speed_up_linear_maps(module: nn.Module) -> nn.Module:
    """Let PyTorch's own linear layers and pointwise convolutions inside a module be those above.

    Parameters and their names stay. Layers of other classes are left alone, as they may do more.

    Returns:
        the module.
    """
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear
        elif (
            type(part) is nn.Conv2d and part.kernel_size == (1, 1) and part.padding_mode == "zeros"
        ):
            part.__class__ = PointwiseConv2d
    return module
