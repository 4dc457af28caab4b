"""Patches of a ViT that are embedded by a convolutional network.

Source: An Image is Worth 16x16 Words, Dosovitskiy et al. 2021, section 3.1 (hybrid architecture).
"""

from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from .timm import TimmBackbone, normalized_with


class FeaturePatches(nn.Module):
    """Embed patches by features: each is projected, brought to the patches' resolution, and added.

    Args:
        backbone: maps images to features, the finest with the stride of the patches.
        replaced: timm's embedding of the same patches, whose place in a ViT it takes.
        dim: channels of the ViT.

    Raises:
        UserError: the finest feature has another stride.
    """

    def __init__(self, backbone: TimmBackbone, replaced: Any, dim: int):
        super().__init__()
        shapes, patch = backbone.output_shape(), replaced.patch_size[0]
        strides = [shape.stride for shape in shapes.values()]
        if min(strides) != patch:
            raise UserError(
                "MODEL.EOMT.STEM.OUT_INDICES: the finest feature must have the stride of the "
                f"patches, {patch} (MODEL.EOMT.PATCH_SIZE); the strides are {strides}."
            )
        self.patch_size, self.grid_size = replaced.patch_size, replaced.grid_size
        self.backbone = backbone
        self.project = nn.ModuleDict(
            {name: nn.Conv2d(shape.channels, dim, 1) for name, shape in shapes.items()}
        )
        self._factors = {name: shape.stride // patch for name, shape in shapes.items()}

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) of whole patches to (B, H/patch, W/patch, C)."""
        height, width = (side // self.patch_size[0] for side in images.shape[2:])
        features = self.backbone(images)
        maps = [
            _enlarge(self.project[name](features[name]), factor)[:, :, :height, :width]
            for name, factor in self._factors.items()
        ]
        return sum(maps[1:], maps[0]).permute(0, 2, 3, 1)


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear") if factor > 1 else x


def build_stem(cfg: CfgNode, vit: Any, in_channels: int) -> FeaturePatches | None:
    """Build the network that MODEL.EOMT.STEM names, to embed the patches of a ViT; None without.

    Raises:
        ImportError, UserError: see `TimmBackbone` and `FeaturePatches`.
    """
    stem, options = cfg.MODEL.EOMT.STEM, cfg.MODEL.TIMM
    if not stem.NAME:
        return None
    backbone = TimmBackbone(
        stem.NAME,
        stem.OUT_INDICES,
        stem.PRETRAINED,
        in_channels=in_channels,
        normalized_with=normalized_with(cfg),
        bgr=cfg.INPUT.FORMAT == "BGR",
        freeze_bn=options.FREEZE_BN,
        freeze_at=-1 if options.FREEZE_AT else 0,
        checkpointing=options.USE_CHECKPOINT,
    )
    return FeaturePatches(backbone, vit.patch_embed, vit.embed_dim)
