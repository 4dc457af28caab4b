"""The pixel decoder of Mask2Former: a deformable encoder over coarse levels, an FPN below it.

Source: Mask2Former, Cheng et al. 2022, section 4.1 (MSDeformAttn pixel decoder).
"""

import math
from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ...config.arguments import configurable, unless_default
from ...errors import UserError
from ...layers import (
    DeformableAttention,
    DeformableEncoder,
    PositionEmbeddingSine,
    xavier_matrices_,
)
from ...ops.memory import OneUse, give_back
from ...ops.recording import integers
from ..registries import SEM_SEG_HEADS_REGISTRY
from .fpn import (
    NUM_LEVELS,
    Norm,
    TopDown,
    adapter_conv,
    c2_xavier_conv,
    output_conv,
    pyramid_args,
    sort_by_stride,
)


class MSDeformAttnTransformerEncoderOnly(nn.Module):
    """Deformable encoder over several maps, with an embedding of each level.

    Args:
        d_model: channels.
        nhead: attention heads.
        num_encoder_layers: layers.
        dim_feedforward: hidden width of the feed-forward networks.
        dropout: dropout of the layers.
        activation: "relu", the only one there is.
        num_feature_levels: maps.
        enc_n_points: locations that a head looks at on each level.

    Raises:
        ValueError: another activation.
    """

    def __init__(
        self,
        d_model: int = 256,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        dim_feedforward: int = 1024,
        dropout: float = 0.1,
        activation: str = "relu",
        num_feature_levels: int = 4,
        enc_n_points: int = 4,
    ):
        super().__init__()
        if activation != "relu":
            raise ValueError(f'{type(self).__name__}: activation must be "relu", got {activation}.')
        self.d_model = d_model
        self.nhead = nhead
        self.level_embed = nn.Parameter(torch.empty(num_feature_levels, d_model))
        self.encoder = DeformableEncoder(
            num_encoder_layers,
            dim=d_model,
            ffn_dim=dim_feedforward,
            dropout=dropout,
            num_levels=num_feature_levels,
            num_heads=nhead,
            num_points=enc_n_points,
        )
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        xavier_matrices_(self.encoder)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()
        nn.init.normal_(self.level_embed)

    def forward(
        self, srcs: Sequence[Tensor], pos_embeds: Sequence[Tensor], *, clear: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode maps.

        Args:
            srcs: (B, C, H, W) for each level.
            pos_embeds: their positions, (B, C, H, W).
            clear: empty both, which are lists, as soon as they are read.

        Returns:
            the encoded pixels (B, S, C), one level after the other, (H, W) of the levels (L, 2) and
            the index (L,) of their first pixels, int64.
        """
        pairs = [tuple(m.shape[-2:]) for m in srcs]
        sizes = integers([n for pair in pairs for n in pair], srcs[0].device).view(-1, 2)
        starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
        tokens = torch.cat([_as_tokens(m) for m in srcs], 1)
        # Positions that are the same for all images are summed up once.
        shared = all(p.stride(0) == 0 for p in pos_embeds)
        position = torch.cat(
            [_as_tokens(p[:1] if shared else p) + e for p, e in zip(pos_embeds, self.level_embed)],
            1,
        )
        if clear and isinstance(srcs, list) and isinstance(pos_embeds, list):
            srcs.clear()
            pos_embeds.clear()
            give_back([tokens, position])
        tokens = self.encoder(tokens, position, pairs)
        return tokens, sizes, starts


def _as_tokens(x: Tensor) -> Tensor:
    """Return pixels (B, H*W, C) of maps (B, C, H, W)."""
    return x.flatten(2).transpose(1, 2)


@SEM_SEG_HEADS_REGISTRY.register()
class MSDeformAttnPixelDecoder(nn.Module):
    """Turn backbone features into mask features of stride 4 and three maps for the decoder.

    Padded pixels take full part, as published. The whole decoder runs in float32, also under
    autocast, unless eval in lower precision is asked for.

    Args:
        input_shape: shapes of the backbone's features, by name.
        transformer_dropout: dropout of the encoder.
        transformer_nheads: attention heads of the encoder.
        transformer_dim_feedforward: hidden width of the encoder's feed-forward networks.
        transformer_enc_layers: encoder layers.
        conv_dim: width of the encoder and the FPN.
        mask_dim: channels of the mask features.
        norm: norm of the FPN's convolutions, as `detectron2.layers.get_norm` takes it.
        transformer_in_features: features that the encoder sees; the rest join in the FPN.
        common_stride: stride of the mask features.
        autocast_in_eval: let autocast reach the decoder in eval; sampling locations stay float32.

    Attributes:
        in_features, feature_strides, feature_channels: of all features, fine to coarse.
        transformer_in_features, transformer_in_channels, transformer_feature_strides: of those
            that the encoder sees, fine to coarse; `input_proj` holds the projections of these in
            the other order, coarse to fine.
        num_fpn_levels: features, the finest ones, that join in the FPN.
        lateral_convs, output_convs: of these, coarse to fine.
    """

    maskformer_num_feature_levels = NUM_LEVELS
    lateral_convs, output_convs = TopDown("adapter"), TopDown("layer")

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        transformer_dropout: float,
        transformer_nheads: int,
        transformer_enc_layers: int,
        conv_dim: int,
        mask_dim: int,
        norm: Norm = None,
        transformer_in_features: list[str],
        common_stride: int,
        transformer_dim_feedforward: int = 1024,
        autocast_in_eval: bool = False,
    ):
        super().__init__()
        self.autocast_in_eval = autocast_in_eval
        _check_features(input_shape, transformer_in_features)
        shapes = sort_by_stride(input_shape)
        self.in_features = [name for name, _ in shapes]
        self.feature_strides = [s.stride for _, s in shapes]
        self.feature_channels = [s.channels for _, s in shapes]
        encoded = [(name, s) for name, s in shapes if name in transformer_in_features]
        self.transformer_in_features = [name for name, _ in encoded]
        self.transformer_feature_strides = [s.stride for _, s in encoded]
        self.transformer_in_channels = [s.channels for _, s in encoded]
        self.transformer_num_feature_levels = len(encoded)
        self.input_proj = nn.ModuleList(
            _input_projection(n, conv_dim) for n in reversed(self.transformer_in_channels)
        )
        self.transformer = MSDeformAttnTransformerEncoderOnly(
            d_model=conv_dim,
            nhead=transformer_nheads,
            num_encoder_layers=transformer_enc_layers,
            dim_feedforward=transformer_dim_feedforward,
            dropout=transformer_dropout,
            num_feature_levels=self.transformer_num_feature_levels,
        )
        self.pe_layer = PositionEmbeddingSine(conv_dim // 2, normalize=True)
        self.mask_dim = mask_dim
        self.mask_features = c2_xavier_conv(conv_dim, mask_dim, kernel_size=1)
        self.common_stride = common_stride
        finest = min(self.transformer_feature_strides)
        self.num_fpn_levels = max(int(math.log2(finest) - math.log2(common_stride)), 0)
        for i, channels in enumerate(self.feature_channels[: self.num_fpn_levels], 1):
            self.add_module(f"adapter_{i}", adapter_conv(channels, conv_dim, norm))
            self.add_module(f"layer_{i}", output_conv(conv_dim, conv_dim, norm))

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            **pyramid_args(cfg, input_shape),
            "transformer_dropout": cfg.MODEL.MASK_FORMER.DROPOUT,
            "transformer_nheads": cfg.MODEL.MASK_FORMER.NHEADS,
            "transformer_dim_feedforward": 1024,  # DIM_FEEDFORWARD is not read, as published
            "transformer_enc_layers": head.TRANSFORMER_ENC_LAYERS,
            "transformer_in_features": head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES,
            "common_stride": head.COMMON_STRIDE,
            **unless_default(cls, autocast_in_eval=cfg.MODEL.MASK_FORMER.TEST.PRECISION == "bf16"),
        }

    def forward_features(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode backbone features (B, C, H, W).

        Returns:
            mask features (B, mask_dim, H/4, W/4); the coarsest encoded map; the three coarsest
            maps (B, conv_dim, ...), coarse to fine. All float32, unless autocast reaches here.
        """
        own = features if isinstance(features, OneUse) else dict(features)
        if self.autocast_in_eval and not self.training:
            return self._decode(own)
        device_type = next(iter(features.values())).device.type
        with torch.autocast(device_type, enabled=False):
            for name in own:
                own[name] = own[name].float()
            return self._decode(own)

    def _decode(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode features, each of which is taken out when it is used."""
        names = self.transformer_in_features[::-1]
        finer = self.in_features[: self.num_fpn_levels][::-1]
        again = {name: features[name] for name in finer if name in names}  # of strides below 4
        sizes = [features[name].shape[-2:] for name in names]
        positions = [self.pe_layer(features[name]) for name in names]
        projected = [p(features.pop(name)) for p, name in zip(self.input_proj, names)]
        encoded, _, _ = self.transformer(projected, positions, clear=True)
        give_back([*features.values(), encoded])
        features.update(again)
        # These strides mark channels as last, so that PyTorch copies nothing.
        maps = [
            level.unflatten(1, size).permute(0, 3, 1, 2)
            for level, size in zip(encoded.split([h * w for h, w in sizes], 1), sizes)
        ]
        for name, lateral, output in zip(finer, self.lateral_convs, self.output_convs):
            # Added in place, as maps of stride 4 are the largest there are.
            x = lateral(features.pop(name))
            x = x.add_(
                F.interpolate(maps[-1], size=x.shape[-2:], mode="bilinear", align_corners=False)
            )
            if torch.is_grad_enabled() and x.device.type == "cpu":
                # The gradient of a 3x3 convolution takes twice as long with channels last.
                x = x.contiguous()
            maps.append(output(x))
            del x  # the largest maps there are
        return self.mask_features(maps[-1]), maps[0], maps[: self.maskformer_num_feature_levels]


def _input_projection(in_channels: int, conv_dim: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, conv_dim, kernel_size=1)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(32, conv_dim))


def _check_features(input_shape: dict[str, ShapeSpec], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in input_shape]
    if missing or not wanted:
        raise UserError(
            f"MSDeformAttnPixelDecoder: expected the encoder's features {list(wanted)} among "
            f"{sorted(input_shape)}. Set MODEL.SEM_SEG_HEAD."
            "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES to some of MODEL.SEM_SEG_HEAD.IN_FEATURES."
        )
