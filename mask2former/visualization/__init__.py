"""Pictures of results: segmentations drawn over images, and contact sheets of many of them."""

from ..pictures import ContactSheet, Region, paint
from .annotations import ground_truth
from .drawing import KINDS, choose_kind, draw, has_kind, semantic_labels

__all__ = [
    "KINDS",
    "ContactSheet",
    "Region",
    "choose_kind",
    "draw",
    "ground_truth",
    "has_kind",
    "paint",
    "semantic_labels",
]
