"""Mask2Former for images and video, as an extension of detectron2.

Importing it registers its models and datasets, as detectron2 plugins do. What takes long to import
(training, evaluation, the model zoo) is imported when one of its names is asked for.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from .threads import sleep_when_waiting

sleep_when_waiting()  # before torch is loaded
# ruff: noqa: E402

try:
    import detectron2
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ImportError(
        "mask2former needs detectron2: run `python tools/install_detectron2.py` in a checkout of "
        "mask2former, or build it from https://github.com/facebookresearch/detectron2"
    ) from error

with warnings.catch_warnings():  # of what fvcore and detectron2 call when they are imported
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    import detectron2.modeling  # noqa: F401

# The three loader functions are among the published video package's names.
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)

from .config import add_maskformer2_config, add_maskformer2_video_config, load_config
from .data import (
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    MaskFormerInstanceDatasetMapper,
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
)
from .data.clips import CocoClipDatasetMapper, YTVISDatasetMapper
from .errors import UserError
from .modeling import MaskFormer, SemanticSegmentorWithTTA, VideoMaskFormer
from .published import import_hook

if TYPE_CHECKING:
    from . import model_zoo
    from .evaluation import InstanceSegEvaluator, YTVISEvaluator
    from .predict import Predictor, VideoPredictor

__version__ = "0.1.0"
__all__ = [
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "CocoClipDatasetMapper",
    "InstanceSegEvaluator",
    "MaskFormer",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "Predictor",
    "SemanticSegmentorWithTTA",
    "UserError",
    "VideoMaskFormer",
    "VideoPredictor",
    "YTVISDatasetMapper",
    "YTVISEvaluator",
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "load_config",
    "model_zoo",
]

_MODULE_OF = {
    "InstanceSegEvaluator": ".evaluation",
    "Predictor": ".predict",
    "VideoPredictor": ".predict",
    "YTVISEvaluator": ".evaluation",
}

import_hook.install()


def __getattr__(name: str) -> Any:
    if name == "model_zoo":
        return importlib.import_module(".model_zoo", __name__)
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
