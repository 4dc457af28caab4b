"""Class names for masks that are given: `MaskClassifier`, and SAM as a source of masks."""

from .decoder import MaskQueryDecoder
from .meta_arch import MaskClassifier
from .prompts import SamPrompts
from .sam import SamSegmenter
from .sam_backbone import SamBackbone

__all__ = ["MaskClassifier", "MaskQueryDecoder", "SamBackbone", "SamPrompts", "SamSegmenter"]
