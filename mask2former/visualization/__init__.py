"""Pictures of results and of ground truth: segmentations drawn over images."""

from ..results.regions import KINDS, choose_kind, has_kind, semantic_labels
from .drawing import draw, ground_truth

__all__ = ["KINDS", "choose_kind", "draw", "ground_truth", "has_kind", "semantic_labels"]
