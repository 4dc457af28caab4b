"""Linear layers, small networks of them, and how their weights start.

Results come from `ops.linear`; the layers themselves stay `torch.nn.Linear`. A layer is called as
usual wherever it is more than its weight and bias: replaced (quantized, parametrized, adapted),
hooked, or recorded by a compiler.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from ..errors import UserError
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
    return onednn_is_wanted() and not _has_any_global_hook() and not any(map(is_watched, layers))


def is_watched(layer: nn.Module) -> bool:
    """Return whether a layer has hooks that wait for its calls, or a forward of its own."""
    hooks = (
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(layer)


class MLP(nn.Module):
    """Linear layers with a ReLU between them and none after the last.

    Source: DETR, Carion et al. 2020, section 3.2 (prediction feed-forward networks).

    Args:
        input_dim: channels that come in.
        hidden_dim: channels between layers.
        output_dim: channels that go out.
        num_layers: number of linear layers, at least 1.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int):
        super().__init__()
        dims = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = relu_of(layer, x)
        return linear_of(self.layers[-1], x)


def xavier_matrices_(module: nn.Module) -> None:
    """Fill all weights of two and more dimensions inside a module by Xavier's uniform rule.

    Vectors, such as biases and norms, keep the values that PyTorch gave them.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def check_heads(layer: nn.Module, dim: int, num_heads: int) -> None:
    """Raise a UserError unless the channels of a layer split into its attention heads."""
    if dim % num_heads:
        raise UserError(
            f"{type(layer).__name__}: {dim} channels do not split into {num_heads} heads; "
            "choose a width that is a multiple of the number of heads."
        )
