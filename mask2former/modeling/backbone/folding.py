"""Convolutions that fold the batch norm after them into their weights, and in residual blocks the
sum and the ReLU after it into their pass; and those of a single pixel as linear maps."""

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ...layers.linear import is_watched, need_not_be_called
from ...ops.fused_relu import conv2d_relu
from ...ops.linear import conv2d


class FoldedConv2d(Conv2d):
    """detectron2's convolution with norm and activation, without a pass for a fixed norm.

    A batch norm that uses stored statistics is a factor and an offset of each channel, which are
    multiplied into the weights in every call: that costs a pass over the weights instead of two
    over the activations (4 % of an image of 800x1216), is differentiable, and leaves parameters and
    their names as they are.
    On a GPU without gradients the norm is one pass either way, and folding more launches.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        if self.padding_mode != "zeros":
            return super().forward(x)
        pays = x.device.type == "cpu" or torch.is_grad_enabled()
        weight, bias, norm = self.weight, self.bias, self.norm
        if pays and _is_fixed(norm):
            (weight, bias), norm = self._fold(), None
        x = conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        x = x if norm is None else norm(x)
        return x if self.activation is None else self.activation(x)

    def with_relu(self, x: Tensor, add: Tensor | None = None, overwrite: bool = False) -> Tensor:
        """Compute the same on a CPU without gradients, then another map added, then a ReLU.

        Args:
            x: (B, C, H, W).
            add: (B, C', H', W').
            overwrite: whether `add` may become the result.
        """
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return conv2d_relu(x, *self._fold(), *geometry, add=add, overwrite=overwrite)

    def _fold(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of convolution and norm as one."""
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self.weight * scale[:, None, None, None], shift


class FusedStem(BasicStem):
    """detectron2's stem; convolution and ReLU are one pass on CPUs without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, C, H/4, W/4)."""
        if not _are_fused(x, self.conv1):
            return super().forward(x)
        return F.max_pool2d(self.conv1.with_relu(x), kernel_size=3, stride=2, padding=1)


class FusedBottleneck(BottleneckBlock):
    """detectron2's residual block; on CPUs without gradients sums and ReLUs are done as the
    convolutions write."""

    def forward(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """Map (B, C, H, W) to (B, C', H/s, W/s); `overwrite`: x may become the result."""
        if not _are_fused(x, self.conv1, self.conv2, self.conv3, self.shortcut):
            return super().forward(x)
        out = self.conv2.with_relu(self.conv1.with_relu(x))
        if self.shortcut is None:
            return self.conv3.with_relu(out, add=x, overwrite=overwrite)
        return self.conv3.with_relu(out, add=self.shortcut(x), overwrite=True)


class FusedStage(nn.Sequential):
    """Residual blocks, each of which may overwrite the result of the one before it: that is nobody
    else's, unless somebody watches."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply one block after the other."""
        overwrite = False
        for block in self:
            x = block(x, overwrite)
            overwrite = not is_watched(block)
        return x


class PointwiseConv2d(nn.Conv2d):
    """PyTorch's convolution of a single pixel, by `ops.linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        return conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


_FASTER = {Conv2d: FoldedConv2d, BasicStem: FusedStem, BottleneckBlock: FusedBottleneck}


def speed_up_convolutions(module: nn.Module) -> nn.Module:
    """Let convolutions and ResNet blocks inside a module be those above; parameters stay.

    Layers of other classes are left alone, as they may do more. Norms whose statistics are updated
    while training are folded in eval only.

    Returns:
        the module.
    """
    for part in module.modules():
        if type(part) is nn.Sequential and {type(block) for block in part} == {BottleneckBlock}:
            part.__class__ = FusedStage
        elif type(part) in _FASTER:
            part.__class__ = _FASTER[type(part)]
        elif (
            type(part) is nn.Conv2d and part.kernel_size == (1, 1) and part.padding_mode == "zeros"
        ):
            part.__class__ = PointwiseConv2d
    return module


def fold_norms(module: nn.Module) -> nn.Module:
    """Multiply fixed batch norms into the convolutions before them, for good, and return the
    module; for copies of models that do nothing but predict."""
    for part in module.modules():
        if isinstance(part, FoldedConv2d) and _is_fixed(part.norm):
            weight, bias = part._fold()
            part.weight = nn.Parameter(weight, requires_grad=False)
            part.bias = nn.Parameter(bias, requires_grad=False)
            part.norm = None
    return module


def _are_fused(x: Tensor, *convolutions: nn.Module | None) -> bool:
    """Return whether convolutions are fused with what follows, instead of being called."""
    parts = [part for part in convolutions if part is not None]
    on_cpu = x.device.type == "cpu" and not torch.is_grad_enabled()
    return on_cpu and all(map(_is_linear, parts)) and need_not_be_called(*parts)


def _is_linear(part: nn.Module) -> bool:
    """Return whether convolution and norm are one zero-padded linear map and nothing more."""
    return (
        type(part) is FoldedConv2d
        and part.padding_mode == "zeros"
        and isinstance(part.padding, tuple)
        and part.activation is None
        and _is_fixed(part.norm)
    )


def _is_fixed(norm: nn.Module | None) -> bool:
    """Return whether a norm is the same linear map for all inputs."""
    if type(norm) is FrozenBatchNorm2d:
        return True
    is_batch_norm = isinstance(norm, _BatchNorm) and norm.affine and norm.track_running_stats
    return is_batch_norm and not norm.training
