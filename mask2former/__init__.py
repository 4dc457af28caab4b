"""Mask2Former for images and video, as an extension of detectron2.

Importing it registers its models and datasets, as detectron2 plugins do: at once where detectron2
is imported, else as soon as it is. Its names are imported when they are asked for. So
`mask2former.runtime`, which runs exported models, needs neither detectron2 nor torch.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .published import import_hook
from .registration import register, register_with_detectron2
from .threads import keep_to_quota, sleep_when_waiting

if TYPE_CHECKING:
    from . import model_zoo
    from .evaluation import InstanceSegEvaluator, YTVISEvaluator
    from .plugin import (
        CocoClipDatasetMapper,
        COCOInstanceNewBaselineDatasetMapper,
        COCOPanopticNewBaselineDatasetMapper,
        MaskFormer,
        MaskFormerInstanceDatasetMapper,
        MaskFormerPanopticDatasetMapper,
        MaskFormerSemanticDatasetMapper,
        SemanticSegmentorWithTTA,
        VideoMaskFormer,
        YTVISDatasetMapper,
        add_maskformer2_config,
        add_maskformer2_video_config,
        build_detection_test_loader,
        build_detection_train_loader,
        get_detection_dataset_dicts,
        load_config,
    )
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

_MODULE_OF = {  # what takes long to import: evaluation, prediction
    "InstanceSegEvaluator": ".evaluation",
    "Predictor": ".predict",
    "VideoPredictor": ".predict",
    "YTVISEvaluator": ".evaluation",
}

sleep_when_waiting()  # before torch is loaded
keep_to_quota()
import_hook.install()
register_with_detectron2()


def __getattr__(name: str) -> Any:
    if name in __all__ and name != "model_zoo":
        plugin = register()
        module = (
            importlib.import_module(_MODULE_OF[name], __name__) if name in _MODULE_OF else plugin
        )
        return getattr(module, name)
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
