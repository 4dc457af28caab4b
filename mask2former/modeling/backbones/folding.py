"""Convolutions that take the batch norm behind them into their weights."""

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...ops.linear import conv2d


class FoldedConv2d(Conv2d):
    """detectron2's convolution with norm and activation, without a pass for a fixed norm.

    A batch norm that uses stored statistics is a factor and an offset of each channel, which are
    multiplied into the weights in every call: that costs a pass over the weights instead of two
    over the activations, is differentiable, and leaves parameters and their names as they are.
    On a GPU without gradients the norm is one pass either way, and folding more launches.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        if self.padding_mode != "zeros":
            return super().forward(x)
        weight, bias, norm = self.weight, self.bias, self.norm
        if _is_fixed(norm) and (x.device.type == "cpu" or torch.is_grad_enabled()):
            weight, bias, norm = *self._folded(), None
        x = conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        x = x if norm is None else norm(x)
        return x if self.activation is None else self.activation(x)

    def _folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of convolution and norm as one."""
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self.weight * scale[:, None, None, None], shift


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Let all of detectron2's convolutions inside a module fold their norm; returns the module.

    Norms whose statistics are updated while training are folded in eval only.
    """
    for part in module.modules():
        if type(part) is Conv2d:
            part.__class__ = FoldedConv2d
    return module


def _is_fixed(norm: nn.Module | None) -> bool:
    """Whether a norm is the same linear map for all inputs."""
    if type(norm) is FrozenBatchNorm2d:
        return True
    is_batch_norm = isinstance(norm, _BatchNorm) and norm.affine and norm.track_running_stats
    return is_batch_norm and not norm.training
