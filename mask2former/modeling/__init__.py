"""The models: backbones, decoders, losses and meta-architectures, in detectron2's registries."""

from .backbones import D2DAT, D2SwinTransformer, TimmBackbone
from .criterion import SetCriterion
from .heads import MaskFormerHead
from .mask_classifier import MaskClassifier, MaskQueryDecoder
from .matcher import HungarianMatcher
from .meta_arch import MaskFormer
from .per_pixel import PerPixelBaselineHead, PerPixelBaselinePlusHead
from .pixel_decoders import (
    BasePixelDecoder,
    MSDeformAttnPixelDecoder,
    TransformerEncoderPixelDecoder,
)
from .transformer_decoders import (
    TRANSFORMER_DECODER_REGISTRY,
    MultiScaleMaskedTransformerDecoder,
    StandardTransformerDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)
from .tta import SemanticSegmentorWithTTA
from .video_meta_arch import VideoMaskFormer

__all__ = [
    "D2DAT",
    "TRANSFORMER_DECODER_REGISTRY",
    "BasePixelDecoder",
    "D2SwinTransformer",
    "HungarianMatcher",
    "MSDeformAttnPixelDecoder",
    "MaskClassifier",
    "MaskFormer",
    "MaskFormerHead",
    "MaskQueryDecoder",
    "MultiScaleMaskedTransformerDecoder",
    "PerPixelBaselineHead",
    "PerPixelBaselinePlusHead",
    "SemanticSegmentorWithTTA",
    "SetCriterion",
    "StandardTransformerDecoder",
    "TimmBackbone",
    "TransformerEncoderPixelDecoder",
    "VideoMaskFormer",
    "VideoMultiScaleMaskedTransformerDecoder",
]
