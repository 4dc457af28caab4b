"""The names of the published video package, which lead to `mask2former`; see docs/migrating.md.

Importing it registers the datasets of videos, as the published package does.
"""

from mask2former import (
    VideoMaskFormer,
    YTVISDatasetMapper,
    YTVISEvaluator,
    add_maskformer2_video_config,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from mask2former.data.datasets import register_video_datasets

__all__ = [
    "VideoMaskFormer",
    "YTVISDatasetMapper",
    "YTVISEvaluator",
    "add_maskformer2_video_config",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
]

register_video_datasets()
