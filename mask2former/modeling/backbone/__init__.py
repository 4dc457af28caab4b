"""Backbones, registered in detectron2's BACKBONE_REGISTRY."""

from .dat import D2DAT
from .swin import D2SwinTransformer
from .timm import TimmBackbone, build_timm_backbone

__all__ = ["D2DAT", "D2SwinTransformer", "TimmBackbone", "build_timm_backbone"]
