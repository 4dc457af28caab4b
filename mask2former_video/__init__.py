"""The names of the published video package, which lead to `mask2former`; see docs/migrating.md."""

from mask2former import (
    VideoMaskFormer,
    YTVISDatasetMapper,
    YTVISEvaluator,
    add_maskformer2_video_config,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)

__all__ = [
    "VideoMaskFormer",
    "YTVISDatasetMapper",
    "YTVISEvaluator",
    "add_maskformer2_video_config",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
]
