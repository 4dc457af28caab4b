"""The models: backbones, decoders, losses and meta-architectures, in detectron2's registries."""

from .backbone import D2DAT, D2SwinTransformer, TimmBackbone, ViTStart
from .criterion.criterion import SetCriterion
from .criterion.matcher import HungarianMatcher
from .mask_classifier import MaskClassifier, MaskQueryDecoder
from .meta_arch.eomt import EoMTHead
from .meta_arch.heads import MaskFormerHead
from .meta_arch.image import MaskFormer
from .meta_arch.per_pixel_heads import PerPixelBaselineHead, PerPixelBaselinePlusHead
from .meta_arch.video import VideoMaskFormer
from .pixel_decoder import (
    BasePixelDecoder,
    MSDeformAttnPixelDecoder,
    TransformerEncoderPixelDecoder,
)
from .postprocessing.tta import SemanticSegmentorWithTTA
from .registries import TRANSFORMER_DECODER_REGISTRY
from .transformer_decoder import (
    MultiScaleMaskedTransformerDecoder,
    StandardTransformerDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)

__all__ = [
    "D2DAT",
    "TRANSFORMER_DECODER_REGISTRY",
    "BasePixelDecoder",
    "D2SwinTransformer",
    "EoMTHead",
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
    "ViTStart",
    "VideoMaskFormer",
    "VideoMultiScaleMaskedTransformerDecoder",
]
