"""From images and videos to predictions: what scripts, services and notebooks call."""

from .demo import Demo
from .image import Predictor
from .masks import GROUND_TRUTH, MaskPredictor, MaskSource
from .tiled import TiledPredictor
from .video import VideoPredictor

__all__ = [
    "GROUND_TRUTH",
    "Demo",
    "MaskPredictor",
    "MaskSource",
    "Predictor",
    "TiledPredictor",
    "VideoPredictor",
]
