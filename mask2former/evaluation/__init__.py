"""Scores of instance, panoptic, semantic and video segmentation, on a CPU and over processes."""

from .build import EVALUATORS, build_evaluator
from .coco_ap import coco_average_precision
from .instance import InstanceSegEvaluator, instances_of_panoptic
from .panoptic import PanopticEvaluator
from .panoptic_files import pq_compute, read_panoptic_png, write_panoptic_png
from .pq import PanopticQuality
from .results import quality_table, results_table, write_results
from .semantic import SemSegEvaluator
from .semantic_pq import semantic_pq
from .track_quality import track_quality
from .video_instance import YTVISEvaluator, evaluate_ytvis

__all__ = [
    "EVALUATORS",
    "InstanceSegEvaluator",
    "PanopticEvaluator",
    "PanopticQuality",
    "SemSegEvaluator",
    "YTVISEvaluator",
    "build_evaluator",
    "coco_average_precision",
    "evaluate_ytvis",
    "instances_of_panoptic",
    "pq_compute",
    "quality_table",
    "read_panoptic_png",
    "results_table",
    "semantic_pq",
    "track_quality",
    "write_panoptic_png",
    "write_results",
]
