"""A feature pyramid made of the one map of a plain vision transformer.

Source: Exploring Plain Vision Transformer Backbones for Object Detection (ViTDet), Li et al. 2022,
section 3. The 3x3 convolution after each level is left out, as pixel decoders have their own.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d


class SimpleFeaturePyramid(nn.Module):
    """Maps of several strides, each made of the same map.

    Finer ones are upsampled by transposed convolutions, coarser ones by max pooling; then a 1x1
    convolution and a norm follow.

    Args:
        in_dim: channels of the map.
        in_stride: its stride, a power of 2.
        dim: channels of the results.
        strides: of the results, powers of 2.
    """

    def __init__(self, in_dim: int, in_stride: int, dim: int, strides: Sequence[int]):
        super().__init__()
        self.levels = nn.ModuleList(
            _level(in_dim, dim, in_stride.bit_length() - stride.bit_length()) for stride in strides
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, C, H, W) to a map (B, dim, H*s, W*s) for each scale s, rounded up."""
        return [level(x) for level in self.levels]


def _level(in_dim: int, dim: int, doublings: int) -> nn.Sequential:
    """Scale a map by 2**doublings and bring it to `dim` channels."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = in_dim
    for i in range(1, doublings + 1):
        if i > 1:
            layers[f"norm{i - 1}"] = LayerNorm2d(width)
            layers[f"act{i - 1}"] = nn.GELU()
        layers[f"up{i}"] = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
        width //= 2
    for i in range(1, -doublings + 1):
        layers[f"pool{i}"] = nn.MaxPool2d(2, ceil_mode=True)
    layers["project"] = nn.Conv2d(width, dim, 1, bias=False)
    layers["norm"] = LayerNorm2d(dim)
    return nn.Sequential(layers)
