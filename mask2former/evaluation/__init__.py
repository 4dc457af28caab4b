"""Scores of instance, panoptic, semantic and video segmentation, on a CPU and over processes."""

from ..formats.label_maps import read_panoptic_png, write_panoptic_png
from .build import EVALUATORS, build_evaluator
from .instance.coco_ap import coco_average_precision
from .instance.evaluator import InstanceSegEvaluator, instances_of_panoptic
from .panoptic.evaluator import PanopticEvaluator
from .panoptic.files import pq_compute
from .panoptic.quality import PanopticQuality
from .results import quality_table, results_table, write_results
from .semantic.evaluator import SemSegEvaluator, semantic_pq
from .video.evaluator import YTVISEvaluator, evaluate_ytvis
from .video.track_quality import track_quality

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
