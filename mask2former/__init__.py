"""Mask2Former for images and video, as an extension of detectron2.

Importing it registers its models and data sets, as detectron2 plugins do.
"""

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ImportError(
        "mask2former needs detectron2: run `python tools/install_detectron2.py` in a checkout of "
        "mask2former, or build it from https://github.com/facebookresearch/detectron2"
    ) from error

from .config import add_maskformer2_config, add_maskformer2_video_config, load_config
from .data import (
    CocoClipDatasetMapper,
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    MaskFormerInstanceDatasetMapper,
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
    YTVISDatasetMapper,
)
from .modeling import MaskFormer, VideoMaskFormer

__version__ = "0.1.0"
__all__ = [
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "CocoClipDatasetMapper",
    "MaskFormer",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "VideoMaskFormer",
    "YTVISDatasetMapper",
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "load_config",
]
