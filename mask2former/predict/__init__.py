"""From images and videos to predictions: what scripts, services and notebooks call."""

from .image import Predictor
from .masks import MaskPredictor
from .video import VideoPredictor

__all__ = ["MaskPredictor", "Predictor", "VideoPredictor"]
