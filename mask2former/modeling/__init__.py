"""The models: backbones, decoders, losses and meta-architectures, in detectron2's registries."""

from .criterion import SetCriterion
from .heads import MaskFormerHead
from .matcher import HungarianMatcher
from .meta_arch import MaskFormer
from .pixel_decoders import MSDeformAttnPixelDecoder
from .transformer_decoders import (
    TRANSFORMER_DECODER_REGISTRY,
    MultiScaleMaskedTransformerDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)
from .video_meta_arch import VideoMaskFormer

__all__ = [
    "TRANSFORMER_DECODER_REGISTRY",
    "HungarianMatcher",
    "MSDeformAttnPixelDecoder",
    "MaskFormer",
    "MaskFormerHead",
    "MultiScaleMaskedTransformerDecoder",
    "SetCriterion",
    "VideoMaskFormer",
    "VideoMultiScaleMaskedTransformerDecoder",
]
