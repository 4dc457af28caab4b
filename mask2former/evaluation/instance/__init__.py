"""Instance segmentation: COCO and boundary AP, and the accuracy of names of given masks."""

from .evaluator import InstanceSegEvaluator, instances_of_panoptic

__all__ = ["InstanceSegEvaluator", "instances_of_panoptic"]
