"""Backbones, registered in detectron2's BACKBONE_REGISTRY."""

from .dat import D2DAT
from .swin import D2SwinTransformer
from .timm import TimmBackbone, build_timm_backbone
from .timm_vit import ViTStart, build_timm_vit_backbone

__all__ = [
    "D2DAT",
    "D2SwinTransformer",
    "TimmBackbone",
    "ViTStart",
    "build_timm_backbone",
    "build_timm_vit_backbone",
]
