"""Datasets, augmentation, mappers and loaders; importing it registers the datasets by name."""

from . import datasets
from .agreement.from_config import register_custom
from .clips import ClipMapper, CocoClipDatasetMapper, YTVISDatasetMapper
from .datasets.custom import register
from .loaders import build_mapper, build_test_loader, build_train_loader
from .mappers import DatasetMapper
from .published_mappers import (
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    MaskFormerInstanceDatasetMapper,
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
)

__all__ = [
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "ClipMapper",
    "CocoClipDatasetMapper",
    "DatasetMapper",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "YTVISDatasetMapper",
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "datasets",
    "register",
    "register_custom",
]
