"""Transformer decoders, registered in TRANSFORMER_DECODER_REGISTRY ("TRANSFORMER_MODULE")."""

from .masked import MultiScaleMaskedTransformerDecoder, VideoMultiScaleMaskedTransformerDecoder
from .standard import TRANSFORMER_DECODER_REGISTRY, StandardTransformerDecoder

__all__ = [
    "TRANSFORMER_DECODER_REGISTRY",
    "MultiScaleMaskedTransformerDecoder",
    "StandardTransformerDecoder",
    "VideoMultiScaleMaskedTransformerDecoder",
]
