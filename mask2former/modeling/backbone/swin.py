"""Swin Transformer as a detectron2 backbone.

Source: Swin Transformer, Liu et al. 2021.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import PatchMerging

from ...config.arguments import configurable
from ...layers import SwinBlock
from ...overrides import is_replaced, refuse_overrides
from ..registries import BACKBONE_REGISTRY
from .stages import STAGE_NAMES, Patches, StagedBackbone, run_blocks


class PatchEmbed(Patches):
    """Square patches of images, each as a vector.

    Args:
        patch_size: side of a patch in pixels.
        in_chans: channels of the images.
        embed_dim: channels of the result.
        norm_layer: makes the norm of so many channels; None for none.
    """

    def __init__(
        self,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ):
        conv = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)
        norm = nn.Identity() if norm_layer is None else norm_layer(embed_dim)
        super().__init__(OrderedDict(proj=conv, norm=norm))

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W), zero-padded to whole patches, to (B, C', H/patch, W/patch)."""
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SwinStage(nn.Module):
    """The blocks of a stage, and what leads to the next one.

    Args:
        blocks: map (B, H, W, C) to the same shape.
        downsample: maps (B, H, W, C) to half the size; None in the last stage.
        use_checkpoint: see `D2SwinTransformer`.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], downsample: nn.Module | None, use_checkpoint: bool
    ):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.use_checkpoint = use_checkpoint

    def run(self, maps: Tensor) -> Tensor:
        """Apply the blocks to maps (B, H, W, C)."""
        return run_blocks(self.blocks, maps, self.use_checkpoint)

    def forward(self, x: Tensor, H: int, W: int) -> tuple[Tensor, int, int, Tensor, int, int]:
        """Do what the published stage does, for subclasses that go from stage to stage.

        Args:
            x: (B, H*W, C), row by row.

        Returns:
            what the blocks give, (B, H*W, C), with H and W; and the next stage's input and sizes.
        """
        maps = self.run(x.unflatten(1, (H, W)))
        following = maps if self.downsample is None else self.downsample(maps)
        height, width = following.shape[1:3]
        return maps.flatten(1, 2), H, W, following.flatten(1, 2), height, width


@BACKBONE_REGISTRY.register()
class D2SwinTransformer(StagedBackbone):
    """Swin Transformer that emits the normalised output of its stages as res2 to res5.

    Unlike in most Swin code, the shift masks do not depend on the image size (see
    `SwinBlock`), and maps smaller than a window are padded to one and shifted like any other, as
    in the published Mask2Former.
    """

    @configurable
    def __init__(
        self,
        *,
        pretrain_img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.3,
        ape: bool = False,
        patch_norm: bool = True,
        out_features: Sequence[str] = STAGE_NAMES,
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
    ):
        """Build the network.

        Args:
            pretrain_img_size: side of the images for which an absolute position embedding is
                kept, resized bicubically to those of other sizes; read with `ape` only.
            patch_size: side of a patch in pixels; the stride of res2.
            in_chans: channels of the images.
            embed_dim: channels of res2; they double from stage to stage.
            depths: blocks of each stage; every second one shifts its windows.
            num_heads: attention heads of each stage.
            window_size: side of the attention windows in patches.
            mlp_ratio, qkv_bias, qk_scale, attn_drop_rate: see `SwinBlock` and `WindowAttention`.
            drop_rate: dropout probability after embeddings, projections and in MLPs.
            drop_path_rate: of the last block; it rises linearly from 0 at the first.
            ape: whether there is an absolute position embedding.
            patch_norm: whether patch embeddings are normalised.
            out_features: the stages that are returned, of res2 to res5.
            frozen_stages: -1 trains everything, 0 freezes the patch embedding, 1 the position
                embedding too, n the first n - 1 stages too. MODEL.BACKBONE.FREEZE_AT is not read,
                as in the published code.
            use_checkpoint: compute activations again in the backward pass instead of keeping them.

        Raises:
            UserError: stages that do not exist, or depths and num_heads of unequal length.
        """
        super().__init__(
            patch_size, embed_dim, drop_path_rate, out_features, depths=depths, num_heads=num_heads
        )
        norm_layer = nn.LayerNorm if patch_norm else None
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim, norm_layer)
        self.register_parameter("absolute_pos_embed", None)
        if ape:
            side = pretrain_img_size // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, embed_dim, side, side))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(drop_rate)
        # Read by subclasses of the published class, beside the modules.
        self.ape, self.num_layers, self.num_features = ape, len(self.dims), self.dims
        self.out_indices = tuple(range(self.num_layers))
        block = partial(
            SwinBlock,
            window=window_size,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop=drop_rate,
            attn_drop=attn_drop_rate,
        )
        self.layers = nn.ModuleList()
        for i, dim in enumerate(self.dims):
            shifts = (window_size // 2 * (j % 2) for j in range(depths[i]))
            blocks = [
                block(dim=dim, num_heads=num_heads[i], shift=shift, drop_path=rate)
                for shift, rate in zip(shifts, self.drop_paths[i])
            ]
            downsample = PatchMerging(dim) if i < len(depths) - 1 else None
            self.layers.append(SwinStage(blocks, downsample, use_checkpoint))
        for i, dim in enumerate(self.dims):
            self.add_module(f"norm{i}", nn.LayerNorm(dim))
        self.freeze_unused(self.layers, [stage.downsample for stage in self.layers])
        if not is_replaced(self, "train"):  # published: called there
            instead = "Pass frozen_stages, or freeze parts at the end of __init__."
            refuse_overrides(self, ["_freeze_stages"], instead)
        if frozen_stages >= 0:
            for module in (self.patch_embed, *self.layers[: max(frozen_stages - 1, 0)]):
                module.requires_grad_(False)
        if frozen_stages >= 1 and ape:
            self.absolute_pos_embed.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        swin = cfg.MODEL.SWIN
        return {
            "pretrain_img_size": swin.PRETRAIN_IMG_SIZE,
            "patch_size": swin.PATCH_SIZE,
            "in_chans": input_shape.channels,
            "embed_dim": swin.EMBED_DIM,
            "depths": swin.DEPTHS,
            "num_heads": swin.NUM_HEADS,
            "window_size": swin.WINDOW_SIZE,
            "mlp_ratio": swin.MLP_RATIO,
            "qkv_bias": swin.QKV_BIAS,
            "qk_scale": swin.QK_SCALE,
            "drop_rate": swin.DROP_RATE,
            "attn_drop_rate": swin.ATTN_DROP_RATE,
            "drop_path_rate": swin.DROP_PATH_RATE,
            "ape": swin.APE,
            "patch_norm": swin.PATCH_NORM,
            "out_features": swin.OUT_FEATURES,
            "frozen_stages": swin.FREEZE_AT or -1,
            "use_checkpoint": swin.USE_CHECKPOINT,
        }

    def embed(self, images: Tensor) -> Tensor:
        """Map images (B, H, W, 3) to patches (B, H/patch, W/patch, C), with their positions."""
        x = self.patch_embed(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.absolute_pos_embed is not None:
            position = F.interpolate(self.absolute_pos_embed, x.shape[1:3], mode="bicubic")
            x = x + position.permute(0, 2, 3, 1)
        return self.pos_drop(x)

    def parts(self) -> list[tuple[Callable[[Tensor], Tensor], nn.Module | None]]:
        """Return what applies the blocks of each stage, with the `PatchMerging` behind it."""
        return [(stage.run, stage.downsample) for stage in self.layers]
