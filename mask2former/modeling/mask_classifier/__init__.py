"""Class names for masks that are given: `MaskClassifier`, and SAM as a source of masks."""

from .decoder import MaskQueryDecoder
from .meta_arch import MaskClassifier
from .sam_backbone import SamBackbone
from .sam_segmenter import SamPrompts, SamSegmenter

__all__ = ["MaskClassifier", "MaskQueryDecoder", "SamBackbone", "SamPrompts", "SamSegmenter"]
