"""Panoptic segmentation: panoptic quality of a model, or of files in COCO's format."""

from .evaluator import PanopticEvaluator
from .files import pq_compute
from .quality import PanopticQuality

__all__ = ["PanopticEvaluator", "PanopticQuality", "pq_compute"]
