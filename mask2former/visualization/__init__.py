"""Pictures of results and of ground truth: segmentations drawn over images."""

from .drawing import KINDS, choose_kind, draw, ground_truth, has_kind, semantic_labels

__all__ = ["KINDS", "choose_kind", "draw", "ground_truth", "has_kind", "semantic_labels"]
