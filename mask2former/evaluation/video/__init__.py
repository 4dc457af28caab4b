"""Video instance segmentation: AP as YouTube-VIS counts it, and the quality of tracks."""

from .evaluator import YTVISEvaluator, evaluate_ytvis
from .track_quality import track_quality

__all__ = ["YTVISEvaluator", "evaluate_ytvis", "track_quality"]
