"""Training, evaluation, prediction and checkpoints."""

from mask2former.engine.build import build_model
from mask2former.engine.checkpoint import Checkpointer, load_weights
from mask2former.engine.distributed import launch
from mask2former.engine.mask_predictor import MaskPredictor
from mask2former.engine.optimizer import build_lr_scheduler, build_optimizer
from mask2former.engine.predictor import Predictor
from mask2former.engine.trainer import Trainer
from mask2former.engine.video_predictor import VideoPredictor

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
]
