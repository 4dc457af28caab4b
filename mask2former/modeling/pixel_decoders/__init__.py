"""Pixel decoders, registered in detectron2's SEM_SEG_HEADS_REGISTRY."""

from .msdeform import MSDeformAttnPixelDecoder

__all__ = ["MSDeformAttnPixelDecoder"]
