"""What registers with detectron2, and the names of the package that need it."""

try:
    import detectron2
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ImportError(
        "mask2former needs detectron2: run `python tools/install_detectron2.py` in a checkout of "
        "mask2former, or build it from https://github.com/facebookresearch/detectron2. Without it, "
        "mask2former.runtime runs exported models."
    ) from error

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
from .modeling import MaskFormer, SemanticSegmentorWithTTA, VideoMaskFormer
from .published import import_hook

__all__ = [
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "CocoClipDatasetMapper",
    "MaskFormer",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "SemanticSegmentorWithTTA",
    "VideoMaskFormer",
    "YTVISDatasetMapper",
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "load_config",
]

import_hook.install()
