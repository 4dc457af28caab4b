"""Pictures of results: segmentations drawn over images, and contact sheets of many of them."""

from .contact_sheet import ContactSheet
from .draw import KINDS, choose_kind, draw, has_kind
from .ground_truth import ground_truth

__all__ = ["KINDS", "ContactSheet", "choose_kind", "draw", "ground_truth", "has_kind"]
