"""Meta-architectures and heads, registered in detectron2's registries."""

from .heads import MaskFormerHead
from .image import MaskFormer
from .per_pixel_heads import PerPixelBaselineHead, PerPixelBaselinePlusHead
from .video import VideoMaskFormer

__all__ = [
    "MaskFormer",
    "MaskFormerHead",
    "PerPixelBaselineHead",
    "PerPixelBaselinePlusHead",
    "VideoMaskFormer",
]
