"""DAT, the Vision Transformer with Deformable Attention, as a detectron2 backbone.

Source: Vision Transformer with Deformable Attention, Xia et al. 2022.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from ...layers import LinearSequential
from .dat_attention import LocalAttention, SampledKeyAttention, named_norm

_STAGE_NAMES = ("res2", "res3", "res4", "res5")
_OFFSET_KERNELS = (9, 7, 5, 3)  # of the convolutions that key positions come from, by stage
_PATCH = 4


class PatchNorm(nn.Sequential):
    """Map each square patch of pixels to one, by a convolution and a LayerNorm."""

    def __init__(self, in_dim: int, dim: int, patch: int, bias: bool):
        conv = nn.Conv2d(in_dim, dim, patch, stride=patch, bias=bias)
        super().__init__(conv, named_norm(dim))
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), zero-padded to whole patches, to (B, H/patch, W/patch, C')."""
        conv, norm = self
        (height, width), patch = x.shape[1:3], self.patch
        x = F.pad(x, (0, 0, 0, -width % patch, 0, -height % patch)).permute(0, 3, 1, 2)
        return norm(conv(x.contiguous()).permute(0, 2, 3, 1))


class DATStage(nn.Module):
    """Blocks of one resolution: attention and an MLP, each after a LayerNorm and in a residual.

    Every first block attends inside windows. Every second one attends to sampled keys where there
    are groups, else inside shifted windows.

    Args:
        dim: channels.
        num_heads: attention heads.
        window: side of a window in pixels.
        groups: groups of heads that move their keys separately; below 1 for shifted windows.
        side: side of the map in pretraining.
        kernel: see `SampledKeyAttention`.
        offset_range: the same.
        mlp_ratio: width of the MLPs over `dim`.
        drop_paths: drop path rate of every block.
        checkpointing: compute activations again in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int,
        groups: int,
        side: int,
        kernel: int,
        offset_range: float,
        mlp_ratio: float,
        drop_paths: Sequence[float],
        checkpointing: bool = False,
    ):
        super().__init__()
        self.checkpointing = checkpointing
        depth, hidden = len(drop_paths), int(dim * mlp_ratio)
        self.layer_norms = nn.ModuleList(named_norm(dim) for _ in range(2 * depth))
        self.mlps = nn.ModuleList(_mlp(dim, hidden) for _ in range(depth))
        self.attns = nn.ModuleList(
            SampledKeyAttention(dim, num_heads, groups, side, kernel, offset_range)
            if i % 2 and groups > 0
            else LocalAttention(dim, window, num_heads, shifted=i % 2 == 1, side=side)
            for i in range(depth)
        )
        self.drop_paths = nn.ModuleList(StochasticDepth(rate, mode="row") for rate in drop_paths)

    def _block(self, i: int, x: Tensor) -> Tensor:
        drop_path = self.drop_paths[i]
        x = x + drop_path(self.attns[i](self.layer_norms[2 * i](x)))
        return x + drop_path(self.mlps[i](self.layer_norms[2 * i + 1](x)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        for i in range(len(self.attns)):
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(self._block, i, x, use_reentrant=False)
            else:
                x = self._block(i, x)
        return x


def _mlp(dim: int, hidden: int) -> nn.Sequential:
    layers = OrderedDict(
        linear1=nn.Linear(dim, hidden), act=nn.GELU(), linear2=nn.Linear(hidden, dim)
    )
    return nn.Sequential(OrderedDict(chunk=LinearSequential(layers)))


@BACKBONE_REGISTRY.register()
class D2DAT(Backbone):
    """DAT that emits the outputs of its stages as res2 to res5.

    Images of any size work. Maps are zero-padded to whole windows and patches; the mask of shifted
    windows does not depend on the size; and the tables of relative positions, made for the
    pretraining's size, are read at displacements relative to the map, as published.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        groups: Sequence[int] = (-1, -1, 3, 6),
        window: int = 7,
        mlp_ratio: float = 4.0,
        offset_range: float = 2.0,
        pretrain_img_size: int = 224,
        drop_path: float = 0.2,
        out_features: Sequence[str] = _STAGE_NAMES,
        out_norm: bool = False,
        checkpointing: bool = False,
    ):
        """Build the network; the defaults are those of DAT-T.

        Args:
            in_channels: channels of the images.
            embed_dim: channels of res2; they double from stage to stage.
            depths: blocks of each of the four stages.
            num_heads: attention heads of each stage.
            groups: of the sampled keys in each stage; below 1 where windows are shifted instead.
            window: side of the attention windows in pixels of the maps.
            mlp_ratio: width of the MLPs over that of the stage.
            offset_range: see `SampledKeyAttention`.
            pretrain_img_size: side of the images of the pretraining, a multiple of 32.
            drop_path: drop path rate of the last block; it rises linearly from 0 at the first.
            out_features: the stages that are returned, of res2 to res5.
            out_norm: whether a LayerNorm follows each returned stage, norm0 to norm3.
            checkpointing: compute activations again in the backward pass instead of keeping them.

        Raises:
            ValueError: stages that do not exist, not four entries, or widths that do not split.
        """
        super().__init__()
        _check(depths, num_heads, groups, pretrain_img_size, out_features)
        dims = [embed_dim * 2**i for i in range(4)]
        strides = [_PATCH * 2**i for i in range(4)]
        self._out_features = [name for name in _STAGE_NAMES if name in out_features]
        self._out_feature_channels = dict(zip(_STAGE_NAMES, dims))
        self._out_feature_strides = dict(zip(_STAGE_NAMES, strides))

        self.patch_proj = PatchNorm(in_channels, embed_dim, _PATCH, bias=True)
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        self.stages = nn.ModuleList(
            DATStage(
                dims[i],
                num_heads[i],
                window,
                groups[i],
                side=pretrain_img_size // strides[i],
                kernel=_OFFSET_KERNELS[i],
                offset_range=offset_range,
                mlp_ratio=mlp_ratio,
                drop_paths=rates[end - depths[i] : end],
                checkpointing=checkpointing,
            )
            for i, end in enumerate(accumulate(depths))
        )
        self.down_projs = nn.ModuleList(
            PatchNorm(dim, 2 * dim, patch=2, bias=False) for dim in dims[:-1]
        )
        for i, (name, dim) in enumerate(zip(_STAGE_NAMES, dims)):
            if out_norm and name in out_features:
                self.add_module(f"norm{i}", nn.LayerNorm(dim))
        self.out_norm = out_norm

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        dat = cfg.MODEL.DAT
        return {
            "in_channels": input_shape.channels,
            "embed_dim": dat.EMBED_DIM,
            "depths": dat.DEPTHS,
            "num_heads": dat.NUM_HEADS,
            "groups": dat.GROUPS,
            "window": dat.WINDOW_SIZE,
            "mlp_ratio": dat.MLP_RATIO,
            "offset_range": dat.OFFSET_RANGE_FACTOR,
            "pretrain_img_size": dat.PRETRAIN_IMG_SIZE,
            "drop_path": dat.DROP_PATH_RATE,
            "out_features": dat.OUT_FEATURES,
            "out_norm": dat.OUT_NORM,
            "checkpointing": dat.USE_CHECKPOINT,
        }

    @property
    def size_divisibility(self) -> int:
        """The stride of the coarsest stage: 32. Other sizes work too."""
        return max(self._out_feature_strides.values())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised images (B, 3, H, W) to {name: (B, C, H/stride, W/stride)}, rounded up."""
        if images.dim() != 4:
            raise ValueError(f"D2DAT: images must be (B, C, H, W), got {tuple(images.shape)}.")
        x = self.patch_proj(images.permute(0, 2, 3, 1))
        features = {}
        for i, (name, stage) in enumerate(zip(_STAGE_NAMES, self.stages)):
            x = stage(x)
            if name in self._out_features:
                out = getattr(self, f"norm{i}")(x) if self.out_norm else x
                features[name] = out.permute(0, 3, 1, 2).contiguous()
            if i < len(self.down_projs):
                x = self.down_projs[i](x)
        return features


def _check(
    depths: Sequence[int],
    num_heads: Sequence[int],
    groups: Sequence[int],
    pretrain_img_size: int,
    out_features: Sequence[str],
) -> None:
    for name, values in (("DEPTHS", depths), ("NUM_HEADS", num_heads), ("GROUPS", groups)):
        if len(values) != len(_STAGE_NAMES):
            raise ValueError(
                f"MODEL.DAT.{name} needs one entry for each of four stages, got {list(values)}."
            )
    if pretrain_img_size < 32 or pretrain_img_size % 32:
        raise ValueError(
            "MODEL.DAT.PRETRAIN_IMG_SIZE must be a positive multiple of 32, the side of the images "
            f"that the weights were trained on, got {pretrain_img_size}."
        )
    if not out_features or not set(out_features) <= set(_STAGE_NAMES):
        raise ValueError(
            f"MODEL.DAT.OUT_FEATURES must be some of {list(_STAGE_NAMES)}, "
            f"got {list(out_features)}."
        )
