"""Semantic segmentation: IoU and accuracy, and the panoptic quality of semantic results."""

from .evaluator import SemSegEvaluator
from .panoptic_quality import semantic_pq

__all__ = ["SemSegEvaluator", "semantic_pq"]
