"""Transformer decoders, registered in TRANSFORMER_DECODER_REGISTRY ("TRANSFORMER_MODULE")."""

from ..registries import TRANSFORMER_DECODER_REGISTRY
from .masked import MultiScaleMaskedTransformerDecoder, VideoMultiScaleMaskedTransformerDecoder
from .standard import StandardTransformerDecoder

__all__ = [
    "TRANSFORMER_DECODER_REGISTRY",
    "MultiScaleMaskedTransformerDecoder",
    "StandardTransformerDecoder",
    "VideoMultiScaleMaskedTransformerDecoder",
]
