"""The pixel decoders of MaskFormer: an FPN, and one with a transformer encoder on top.

Source: MaskFormer, Cheng et al. 2021, section 3.2; FPN, Lin et al. 2017.
"""

from collections.abc import Callable

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn
from torch.nn import functional as F

from ...config.arguments import configurable
from ...layers import SinePositionEncoding, TransformerEncoder
from ..registries import SEM_SEG_HEADS_REGISTRY

Norm = str | Callable[[int], nn.Module] | None
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


def adapter_conv(in_channels: int, conv_dim: int, norm: Norm) -> Conv2d:
    """Build a lateral 1x1 convolution with norm and no activation; a bias only where norm is ""."""
    return c2_xavier_conv(
        in_channels, conv_dim, kernel_size=1, bias=norm == "", norm=get_norm(norm, conv_dim)
    )


def output_conv(in_channels: int, conv_dim: int, norm: Norm) -> Conv2d:
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


class TopDown:
    """The convolutions of a pyramid in the order that they are used in, coarse to fine, as a list.

    They are the modules `{prefix}_{i}` of a decoder with `num_fpn_levels`, looked up anew each time
    as somebody may exchange one; None where there is none. A subclass may set a list of its own.
    """

    def __init__(self, prefix: str):
        self.prefix = prefix

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, decoder: nn.Module | None, owner: type | None = None):
        if decoder is None:
            return self
        if self.name in decoder._modules:  # a ModuleList, which comes after class attributes
            return decoder._modules[self.name]
        levels = range(decoder.num_fpn_levels, 0, -1)
        return [getattr(decoder, f"{self.prefix}_{i}", None) for i in levels]


@SEM_SEG_HEADS_REGISTRY.register()
class BasePixelDecoder(nn.Module):
    """A feature pyramid over all input features, up to the finest.

    Differs from FPN in that sums pass a norm and a ReLU, and that only the coarsest level, which
    has no sum, takes its backbone feature through a 3x3 convolution.

    Args:
        input_shape: shapes of the backbone's features, by name.
        conv_dim: width of the pyramid.
        mask_dim: channels of the mask features.
        norm: norm of the convolutions, as `detectron2.layers.get_norm` takes it; None for none.

    Attributes:
        in_features: names of all features, fine to coarse.
        lateral_convs, output_convs: of these, coarse to fine; the first lateral one is None.
    """

    maskformer_num_feature_levels = NUM_LEVELS
    lateral_convs, output_convs = TopDown("adapter"), TopDown("layer")

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        conv_dim: int,
        mask_dim: int,
        norm: Norm = None,
    ):
        super().__init__()
        shapes = sort_by_stride(input_shape)
        self.in_features = [name for name, _ in shapes]  # fine to coarse, like layer_1 and on
        self.num_fpn_levels = len(shapes)
        self.mask_dim = mask_dim
        for i, (_, shape) in enumerate(shapes[:-1], 1):
            self.add_module(f"adapter_{i}", adapter_conv(shape.channels, conv_dim, norm))
            self.add_module(f"layer_{i}", output_conv(conv_dim, conv_dim, norm))
        top = output_conv(shapes[-1][1].channels, conv_dim, norm)
        self.add_module(f"layer_{len(shapes)}", top)
        self.mask_features = c2_xavier_conv(conv_dim, mask_dim, kernel_size=3, padding=1)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        return pyramid_args(cfg, input_shape)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what enters the top of the pyramid, and the encoder map: None in an FPN."""
        return x, None

    def forward_features(
        self, features: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Decode backbone features (B, C, H, W).

        Returns:
            mask features (B, mask_dim, H, W) of the finest size; the encoder map of the coarsest
            size, or None; the three coarsest maps (B, conv_dim, ...), coarse to fine.
        """
        maps: list[Tensor] = []
        encoder_map = None
        coarse_to_fine = zip(reversed(self.in_features), self.lateral_convs, self.output_convs)
        for name, lateral, output in coarse_to_fine:
            if lateral is None:
                x, encoder_map = self._encode(features[name])
            else:
                x = lateral(features[name])
                x = x + F.interpolate(maps[-1], size=x.shape[-2:], mode="nearest")
            maps.append(output(x))
        return self.mask_features(maps[-1]), encoder_map, maps[: self.maskformer_num_feature_levels]


@SEM_SEG_HEADS_REGISTRY.register()
class TransformerEncoderPixelDecoder(BasePixelDecoder):
    """`BasePixelDecoder` whose coarsest feature passes a transformer encoder first.

    Args:
        transformer_dropout: dropout of the encoder.
        transformer_nheads: attention heads of the encoder.
        transformer_dim_feedforward: hidden width of the encoder's feed-forward networks.
        transformer_enc_layers: encoder layers.
        transformer_pre_norm: normalise before attention instead of after.
        input_shape, conv_dim, mask_dim, norm: see `BasePixelDecoder`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        transformer_dropout: float,
        transformer_nheads: int,
        transformer_dim_feedforward: int,
        transformer_enc_layers: int,
        transformer_pre_norm: bool,
        conv_dim: int,
        norm: Norm = None,
        **pyramid,
    ):
        super().__init__(input_shape, conv_dim=conv_dim, norm=norm, **pyramid)
        channels = sort_by_stride(input_shape)[-1][1].channels
        self.input_proj = c2_xavier_conv(channels, conv_dim, kernel_size=1)
        self.position = SinePositionEncoding(conv_dim // 2)
        encoder = TransformerEncoder(
            transformer_enc_layers,
            conv_dim,
            transformer_nheads,
            transformer_dim_feedforward,
            transformer_dropout,
            transformer_pre_norm,
        )
        self.transformer = nn.ModuleDict({"encoder": encoder})
        top = f"layer_{len(self.in_features)}"
        delattr(self, top)  # it comes last in published checkpoints
        self.add_module(top, output_conv(conv_dim, conv_dim, norm))

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        mask_former = cfg.MODEL.MASK_FORMER
        return {
            **super().from_config(cfg, input_shape),
            "transformer_dropout": mask_former.DROPOUT,
            "transformer_nheads": mask_former.NHEADS,
            "transformer_dim_feedforward": mask_former.DIM_FEEDFORWARD,
            "transformer_enc_layers": cfg.MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS,
            "transformer_pre_norm": mask_former.PRE_NORM,
        }

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        size = x.shape[-2:]
        tokens = self.input_proj(x).flatten(2).transpose(1, 2)
        tokens = self.transformer["encoder"](tokens, self.position(*size, device=x.device))
        encoded = tokens.transpose(1, 2).unflatten(2, size)
        return encoded, encoded
