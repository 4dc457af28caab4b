"""The pixel decoder of Mask2Former: a deformable encoder over coarse levels, an FPN below it.

Source: Mask2Former, Cheng et al. 2022, section 4.1 (MSDeformAttn pixel decoder).
"""

import math
from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers import DeformableAttention, DeformableEncoder, SinePositionEncoding, xavier_matrices_
from .fpn import (
    NUM_LEVELS,
    adapter_conv,
    c2_xavier_conv,
    output_conv,
    pyramid_args,
    sort_by_stride,
)

_FFN_DIM = 1024  # the published encoder does not read DIM_FEEDFORWARD


class _LevelEncoder(nn.Module):
    """Deformable encoder over several maps, with an embedding of each level."""

    def __init__(self, dim: int, num_levels: int, num_layers: int, num_heads: int, dropout: float):
        super().__init__()
        self.level_embed = nn.Parameter(torch.empty(num_levels, dim))
        self.encoder = DeformableEncoder(
            num_layers,
            dim=dim,
            ffn_dim=_FFN_DIM,
            dropout=dropout,
            num_levels=num_levels,
            num_heads=num_heads,
        )
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        xavier_matrices_(self.encoder)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()
        nn.init.normal_(self.level_embed)

    def forward(self, maps: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Encode maps (B, C, H, W), given their positions (H*W, C), to maps of the same shapes."""
        sizes = [tuple(m.shape[-2:]) for m in maps]
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        position = torch.cat([p + e for p, e in zip(positions, self.level_embed)])
        tokens = self.encoder(tokens, position, sizes)
        levels = tokens.split([h * w for h, w in sizes], 1)
        # These strides mark channels as last, so that PyTorch copies nothing.
        return [x.unflatten(1, s).permute(0, 3, 1, 2) for x, s in zip(levels, sizes)]


@SEM_SEG_HEADS_REGISTRY.register()
class MSDeformAttnPixelDecoder(nn.Module):
    """Turn backbone features into mask features of stride 4 and three maps for the decoder.

    Padded pixels take full part, as published. The whole decoder runs in float32, also under
    autocast, unless eval in lower precision is asked for.

    Args:
        input_shape: shapes of the backbone's features, by name.
        transformer_dropout: dropout of the encoder.
        transformer_nheads: attention heads of the encoder.
        transformer_enc_layers: encoder layers.
        conv_dim: width of the encoder and the FPN.
        mask_dim: channels of the mask features.
        norm: norm of the FPN's convolutions, a name that `detectron2.layers.get_norm` takes.
        transformer_in_features: features that the encoder sees; the rest join in the FPN.
        common_stride: stride of the mask features.
        autocast_in_eval: let autocast reach the decoder in eval; sampling locations stay float32.
    """

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
        norm: str,
        transformer_in_features: list[str],
        common_stride: int,
        autocast_in_eval: bool = False,
    ):
        super().__init__()
        self.autocast_in_eval = autocast_in_eval
        _check_features(input_shape, transformer_in_features)
        shapes = sort_by_stride(input_shape)
        self.in_features = [name for name, _ in shapes]
        encoded = [(n, s) for n, s in shapes if n in transformer_in_features][::-1]
        self.transformer_in_features = [name for name, _ in encoded]  # coarse to fine
        self.input_proj = nn.ModuleList(_input_projection(s.channels, conv_dim) for _, s in encoded)
        self.transformer = _LevelEncoder(
            conv_dim, len(encoded), transformer_enc_layers, transformer_nheads, transformer_dropout
        )
        self.position = SinePositionEncoding(conv_dim // 2)
        self.mask_features = c2_xavier_conv(conv_dim, mask_dim, kernel_size=1)
        finest = min(s.stride for _, s in encoded)
        fpn_levels = max(int(math.log2(finest) - math.log2(common_stride)), 0)
        self.fpn_features = self.in_features[:fpn_levels]  # fine to coarse
        for i, name in enumerate(self.fpn_features, 1):
            self.add_module(
                f"adapter_{i}", adapter_conv(input_shape[name].channels, conv_dim, norm)
            )
            self.add_module(f"layer_{i}", output_conv(conv_dim, conv_dim, norm))

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            **pyramid_args(cfg, input_shape),
            "transformer_dropout": cfg.MODEL.MASK_FORMER.DROPOUT,
            "transformer_nheads": cfg.MODEL.MASK_FORMER.NHEADS,
            "transformer_enc_layers": head.TRANSFORMER_ENC_LAYERS,
            "transformer_in_features": head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES,
            "common_stride": head.COMMON_STRIDE,
            "autocast_in_eval": cfg.MODEL.MASK_FORMER.TEST.PRECISION != "fp32",
        }

    def forward_features(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode backbone features (B, C, H, W).

        Returns:
            mask features (B, mask_dim, H/4, W/4); the coarsest encoded map; the three coarsest
            maps (B, conv_dim, ...), coarse to fine. All float32, unless autocast reaches here.
        """
        if self.autocast_in_eval and not self.training:
            return self._decode(features)
        device_type = next(iter(features.values())).device.type
        with torch.autocast(device_type, enabled=False):
            return self._decode({k: v.float() for k, v in features.items()})

    def _decode(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        inputs = [features[name] for name in self.transformer_in_features]
        positions = [self.position(*x.shape[-2:], device=x.device) for x in inputs]
        maps = self.transformer([p(x) for p, x in zip(self.input_proj, inputs)], positions)
        for i, name in reversed(list(enumerate(self.fpn_features, 1))):
            # Added in place, as maps of stride 4 are the largest there are.
            x = getattr(self, f"adapter_{i}")(features[name])
            x = x.add_(
                F.interpolate(maps[-1], size=x.shape[-2:], mode="bilinear", align_corners=False)
            )
            if torch.is_grad_enabled() and x.device.type == "cpu":
                # The gradient of a 3x3 convolution takes twice as long with channels last.
                x = x.contiguous()
            maps.append(getattr(self, f"layer_{i}")(x))
        return self.mask_features(maps[-1]), maps[0], maps[:NUM_LEVELS]


def _input_projection(in_channels: int, conv_dim: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, conv_dim, kernel_size=1)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(32, conv_dim))


def _check_features(input_shape: dict[str, ShapeSpec], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in input_shape]
    if missing or not wanted:
        raise ValueError(
            f"MSDeformAttnPixelDecoder: expected the encoder's features {list(wanted)} among "
            f"{sorted(input_shape)}. Set MODEL.SEM_SEG_HEAD."
            "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES to some of MODEL.SEM_SEG_HEAD.IN_FEATURES."
        )
