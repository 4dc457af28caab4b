"""Results of linear layers by `ops.linear`; the layers themselves stay `torch.nn.Linear`.

A layer is called as usual wherever it is more than its weight and bias: replaced (quantized,
parametrized, adapted), hooked, or recorded by a compiler.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from ..ops.fused_relu import linear_relu
from ..ops.linear import linear, onednn_is_wanted


def linear_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Return a linear layer's result, (..., I) to (..., O)."""
    if type(layer) is nn.Linear and need_not_be_called(layer):
        return linear(x, layer.weight, layer.bias)
    return layer(x)


def relu_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the ReLU of a linear layer's result; in one pass where possible without gradients."""
    if type(layer) is nn.Linear and layer.bias is not None and need_not_be_called(layer):
        return linear_relu(x, layer.weight, layer.bias)
    # In place only without gradients: those of a view, which this may be, would be copied.
    return F.relu(linear_of(layer, x), inplace=not torch.is_grad_enabled())


class LinearSequential(nn.Sequential):
    """`torch.nn.Sequential` whose linear layers are computed by `linear_of`."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply one layer after the other."""
        for layer in self:
            x = linear_of(layer, x)
        return x


def need_not_be_called(*layers: nn.Module) -> bool:
    """Return whether layers may be computed from their parameters: no hooks wait for the calls, no
    layer has a forward of its own, and PyTorch's own operators are not counted or recorded."""
    return onednn_is_wanted() and not _has_any_global_hook() and not any(map(_is_watched, layers))


def _is_watched(layer: nn.Module) -> bool:
    hooks = (
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(layer)
