"""Swin Transformer as a detectron2 backbone.

Source: Swin Transformer, Liu et al. 2021.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...layers import SwinBlock, linear_of

_STAGE_NAMES = ("res2", "res3", "res4", "res5")


class PatchEmbed(nn.Module):
    """Embed each square patch of an image by one convolution, and normalise it if asked to."""

    def __init__(self, patch_size: int, in_channels: int, dim: int, norm: bool = True):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), zero-padded to whole patches, to (B, H/patch, W/patch, C)."""
        (height, width), patch = images.shape[2:], self.patch_size
        images = F.pad(images, (0, -width % patch, 0, -height % patch))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Halve a map by merging each 2x2 pixels into one, of twice the channels."""

    def __init__(self, dim: int):
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), odd sides zero-padded, to (B, H/2, W/2, 2C), rounded up."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        columns_first = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return linear_of(self.reduction, self.norm(torch.cat(columns_first, dim=-1)))


class SwinStage(nn.Module):
    """Blocks of one resolution, every second one with shifted windows.

    Args:
        dim: channels.
        window: side of a window in pixels.
        drop_paths: drop path rate of every block.
        downsample: whether a `PatchMerging` leads to the next stage.
        checkpointing: compute activations again in the backward pass instead of keeping them.
        **block: other arguments of `SwinBlock`.
    """

    def __init__(
        self,
        dim: int,
        window: int,
        drop_paths: list[float],
        downsample: bool,
        checkpointing: bool = False,
        **block,
    ):
        super().__init__()
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(
            SwinBlock(dim, window, shift=window // 2 * (i % 2), drop_path=rate, **block)
            for i, rate in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) through the blocks, not through `downsample`."""
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


def _stage_names(
    depths: Sequence[int], num_heads: Sequence[int], out_features: Sequence[str]
) -> tuple[str, ...]:
    """Return the names of the stages, after a check that the arguments fit each other."""
    names = _STAGE_NAMES[: len(depths)]
    if len(num_heads) != len(depths) or len(depths) > len(_STAGE_NAMES):
        raise ValueError(
            "D2SwinTransformer: depths and num_heads need one entry for each of at most "
            f"{len(_STAGE_NAMES)} stages, got {list(depths)} and {list(num_heads)}."
        )
    if not out_features or not set(out_features) <= set(names):
        raise ValueError(
            f"D2SwinTransformer: out_features must be some of {list(names)}, "
            f"got {list(out_features)}."
        )
    return names


@BACKBONE_REGISTRY.register()
class D2SwinTransformer(Backbone):
    """Swin Transformer that emits the normalised output of its stages as res2 to res5.

    Unlike in most Swin code, the shift masks do not depend on the image size (see
    `SwinBlock`), and maps smaller than a window are padded to one and shifted like any other, as
    in the published Mask2Former.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int = 3,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop: float = 0.0,
        drop_path: float = 0.3,
        pretrain_img_size: int | None = None,
        patch_norm: bool = True,
        out_features: Sequence[str] = _STAGE_NAMES,
        freeze_at: int = 0,
        **stage,
    ):
        """Build the network.

        Args:
            in_channels: channels of the images.
            patch_size: side of a patch in pixels; the stride of res2.
            embed_dim: channels of res2; they double from stage to stage.
            depths: blocks of each stage.
            num_heads: attention heads of each stage.
            window: side of the attention windows in patches.
            drop: dropout probability after embeddings, projections and in MLPs.
            drop_path: drop path rate of the last block; it rises linearly from 0 at the first.
            pretrain_img_size: side of the images for which an absolute position embedding is
                kept, resized bicubically to those of other sizes; without it there is none.
            patch_norm: whether patch embeddings are normalised.
            out_features: the stages that are returned, of res2 to res5.
            freeze_at: 0 trains everything, 1 freezes the patch embedding, n the first n - 1
                stages too. MODEL.BACKBONE.FREEZE_AT is not read, as in the published code.
            **stage: other arguments of `SwinStage`, `SwinBlock` and `WindowAttention`.

        Raises:
            ValueError: stages that do not exist, or depths and num_heads of unequal length.
        """
        super().__init__()
        names = _stage_names(depths, num_heads, out_features)
        dims = [embed_dim * 2**i for i in range(len(depths))]
        self._out_features = [name for name in names if name in out_features]
        self._out_feature_channels = dict(zip(names, dims))
        self._out_feature_strides = {name: patch_size * 2**i for i, name in enumerate(names)}

        self.patch_embed = PatchEmbed(patch_size, in_channels, embed_dim, patch_norm)
        self.register_parameter("absolute_pos_embed", None)
        if pretrain_img_size is not None:
            side = pretrain_img_size // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, embed_dim, side, side))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(drop)
        step = drop_path / max(sum(depths) - 1, 1)
        self.layers = nn.ModuleList(
            SwinStage(
                dims[i],
                window,
                drop_paths=[step * j for j in range(end - depths[i], end)],
                downsample=i < len(depths) - 1,
                num_heads=num_heads[i],
                drop=drop,
                **stage,
            )
            for i, end in enumerate(accumulate(depths))
        )
        for i, dim in enumerate(dims):
            self.add_module(f"norm{i}", nn.LayerNorm(dim))
        self._freeze(freeze_at)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        swin = cfg.MODEL.SWIN
        return {
            "in_channels": input_shape.channels,
            "patch_size": swin.PATCH_SIZE,
            "embed_dim": swin.EMBED_DIM,
            "depths": swin.DEPTHS,
            "num_heads": swin.NUM_HEADS,
            "window": swin.WINDOW_SIZE,
            "drop": swin.DROP_RATE,
            "drop_path": swin.DROP_PATH_RATE,
            "pretrain_img_size": swin.PRETRAIN_IMG_SIZE if swin.APE else None,
            "patch_norm": swin.PATCH_NORM,
            "out_features": swin.OUT_FEATURES,
            "freeze_at": swin.FREEZE_AT,
            "mlp_ratio": swin.MLP_RATIO,
            "qkv_bias": swin.QKV_BIAS,
            "qk_scale": swin.QK_SCALE,
            "attn_drop": swin.ATTN_DROP_RATE,
            "checkpointing": swin.USE_CHECKPOINT,
        }

    @property
    def size_divisibility(self) -> int:
        """The stride of the coarsest stage: 32 for the published networks. Other sizes work too."""
        return max(self._out_feature_strides.values())

    def _freeze(self, freeze_at: int) -> None:
        self.freeze_at = freeze_at
        for module in self._frozen_modules():
            module.requires_grad_(False)
        if freeze_at and self.absolute_pos_embed is not None:
            self.absolute_pos_embed.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        return [self.patch_embed, *self.layers[: self.freeze_at - 1]] if self.freeze_at else []

    def train(self, mode: bool = True) -> "D2SwinTransformer":
        """Set training mode, in which frozen modules stay as in evaluation; return the backbone."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised images (B, 3, H, W) to {name: (B, C, H/stride, W/stride)}, rounded up."""
        if images.dim() != 4:
            raise ValueError(
                f"D2SwinTransformer: images must be (B, C, H, W), got {tuple(images.shape)}."
            )
        x = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            position = F.interpolate(self.absolute_pos_embed, x.shape[1:3], mode="bicubic")
            x = x + position.permute(0, 2, 3, 1)
        x = self.pos_drop(x)
        features = {}
        for i, (name, stage) in enumerate(zip(self._out_feature_strides, self.layers)):
            x = stage(x)
            if name in self._out_features:
                features[name] = getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2).contiguous()
            if stage.downsample is not None:
                x = stage.downsample(x)
        return features
