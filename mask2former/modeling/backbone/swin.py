"""Swin Transformer as a detectron2 backbone.

Source: Swin Transformer, Liu et al. 2021.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import PatchMerging

from ...layers import SwinBlock
from ..overrides import is_replaced, refuse_overrides
from .stages import STAGE_NAMES, Patches, StagedBackbone, run_blocks


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
        out_features: Sequence[str] = STAGE_NAMES,
        freeze_at: int = 0,
        checkpointing: bool = False,
        **block,
    ):
        """Build the network.

        Args:
            in_channels: channels of the images.
            patch_size: side of a patch in pixels; the stride of res2.
            embed_dim: channels of res2; they double from stage to stage.
            depths: blocks of each stage; every second one shifts its windows.
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
            checkpointing: compute activations again in the backward pass instead of keeping them.
            **block: other arguments of `SwinBlock` and `WindowAttention`.

        Raises:
            ValueError: stages that do not exist, or depths and num_heads of unequal length.
        """
        super().__init__(
            patch_size, embed_dim, drop_path, out_features, depths=depths, num_heads=num_heads
        )
        conv = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
        norm = nn.LayerNorm(embed_dim) if patch_norm else nn.Identity()
        self.patch_embed = Patches(OrderedDict(proj=conv, norm=norm))
        self.register_parameter("absolute_pos_embed", None)
        if pretrain_img_size is not None:
            side = pretrain_img_size // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, embed_dim, side, side))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(drop)
        self.checkpointing = checkpointing
        self.layers = nn.ModuleList()
        for i, dim in enumerate(self.dims):
            shared = {"dim": dim, "window": window, "num_heads": num_heads[i], "drop": drop}
            blocks = [
                SwinBlock(shift=window // 2 * (j % 2), drop_path=rate, **shared, **block)
                for j, rate in enumerate(self.drop_paths[i])
            ]
            stage = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
            if i < len(depths) - 1:
                stage["downsample"] = PatchMerging(dim)
            self.layers.append(stage)
        for i, dim in enumerate(self.dims):
            self.add_module(f"norm{i}", nn.LayerNorm(dim))
        if not is_replaced(self, "train"):  # published: called there
            instead = "Pass freeze_at, or freeze parts at the end of __init__."
            refuse_overrides(self, ["_freeze_stages"], instead)
        if freeze_at:
            for module in (self.patch_embed, *self.layers[: freeze_at - 1]):
                module.requires_grad_(False)
            if self.absolute_pos_embed is not None:
                self.absolute_pos_embed.requires_grad_(False)

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

    def embed(self, images: Tensor) -> Tensor:
        """Map images (B, H, W, 3) to patches (B, H/patch, W/patch, C), with their positions."""
        x = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            position = F.interpolate(self.absolute_pos_embed, x.shape[1:3], mode="bicubic")
            x = x + position.permute(0, 2, 3, 1)
        return self.pos_drop(x)

    def parts(self) -> list[tuple[Callable[[Tensor], Tensor], nn.Module | None]]:
        """Return what applies the blocks of each stage, with the `PatchMerging` behind it."""
        run = partial(run_blocks, checkpointing=self.checkpointing)
        return [
            (partial(run, stage["blocks"]), getattr(stage, "downsample", None))
            for stage in self.layers
        ]
