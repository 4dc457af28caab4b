"""Convolutions and helpers that the pixel decoders share."""

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn.weight_init import c2_xavier_fill
from torch.nn import functional as F

NUM_LEVELS = 3  # maps of strides 32, 16 and 8 that multi-scale transformer decoders get


def sort_by_stride(input_shape: dict[str, ShapeSpec]) -> list[tuple[str, ShapeSpec]]:
    """Sort features from fine to coarse."""
    return sorted(input_shape.items(), key=lambda item: item[1].stride)


def select_features(cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, ShapeSpec]:
    """Return the features that MODEL.SEM_SEG_HEAD.IN_FEATURES names."""
    return {k: v for k, v in input_shape.items() if k in cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES}


def pyramid_args(cfg, input_shape: dict[str, ShapeSpec]) -> dict:
    """Read the arguments that all pixel decoders have from a config."""
    head = cfg.MODEL.SEM_SEG_HEAD
    return {
        "input_shape": select_features(cfg, input_shape),
        "conv_dim": head.CONVS_DIM,
        "mask_dim": head.MASK_DIM,
        "norm": head.NORM,
    }


def c2_xavier_conv(in_channels: int, out_channels: int, **conv_args) -> Conv2d:
    """Build a convolution with Caffe2's Xavier weights (Kaiming uniform, a=1) and zero bias."""
    conv = Conv2d(in_channels, out_channels, **conv_args)
    c2_xavier_fill(conv)
    return conv


def adapter_conv(in_channels: int, conv_dim: int, norm: str | None) -> Conv2d:
    """Build a lateral 1x1 convolution with norm and no activation; a bias only where norm is ""."""
    return c2_xavier_conv(
        in_channels, conv_dim, kernel_size=1, bias=norm == "", norm=get_norm(norm, conv_dim)
    )


def output_conv(in_channels: int, conv_dim: int, norm: str | None) -> Conv2d:
    """Build a 3x3 convolution with norm and ReLU; a bias only where norm is ""."""
    return c2_xavier_conv(
        in_channels,
        conv_dim,
        kernel_size=3,
        padding=1,
        bias=norm == "",
        norm=get_norm(norm, conv_dim),
        activation=F.relu_,  # of the norm's output, which nothing else needs
    )
