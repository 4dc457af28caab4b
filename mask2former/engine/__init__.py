"""Training, evaluation of runs, set-up and the checks before it."""

from ..checkpoints.checkpointer import Checkpointer
from ..checkpoints.storage.weights_io import load_weights
from ..modeling.build import build_model
from ..predict.image import Predictor
from ..predict.masks import MaskPredictor
from ..predict.video import VideoPredictor
from .defaults import validate
from .distributed import launch
from .optimizer import build_lr_scheduler, build_optimizer
from .trainer import Trainer

__all__ = [
    "Checkpointer",
    "MaskPredictor",
    "Predictor",
    "Trainer",
    "VideoPredictor",
    "build_lr_scheduler",
    "build_model",
    "build_optimizer",
    "launch",
    "load_weights",
    "validate",
]
