"""Data loaders for training and testing, built with detectron2's."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
    print_instances_class_histogram,
)
from detectron2.data.build import filter_images_with_only_crowd_annotations
from torch.utils.data import ConcatDataset

from ..formats.segmentations import describe
from .clips import ClipMapper
from .given_masks.mapper import MaskDatasetMapper
from .mappers import DatasetMapper
from .mixing import mix_clips, take_over_classes
from .num_classes import check_classes, check_num_classes

Record = dict[str, Any]
Mapper = Callable[[Record], Record]


def build_mapper(cfg: CfgNode, is_train: bool = True) -> DatasetMapper | ClipMapper:
    """Build the mapper for a config: of clips for VideoMaskFormer, of images and masks for
    MaskClassifier, else of images.

    Raises:
        ValueError: INPUT.DATASET_MAPPER_NAME, which chooses that of images, is unknown. (The
            published scripts fall back on detectron2's mapper.)
    """
    if cfg.MODEL.META_ARCHITECTURE == "VideoMaskFormer":
        return ClipMapper(cfg, is_train)
    if cfg.MODEL.META_ARCHITECTURE == "MaskClassifier":
        return MaskDatasetMapper(cfg, is_train)
    return DatasetMapper(cfg, is_train)


def build_train_loader(cfg: CfgNode, mapper: Mapper | None = None) -> Iterable[list[Record]]:
    """Build an endless loader of batches for DATASETS.TRAIN.

    This reads DATALOADER (workers, sampler, FILTER_EMPTY_ANNOTATIONS, grouping by aspect ratio) and
    SOLVER.IMS_PER_BATCH as detectron2 does. Each worker has a seed of its own, drawn from torch's.

    VideoMaskFormer trains on datasets of videos, of images with instances, which become clips, or
    of both, see ``mixing``.

    Args:
        mapper: what maps a record; None for the one that the config names.

    Raises:
        ValueError: NUM_CLASSES does not fit a dataset, a category does not exist, the datasets
            have different classes, or no image is left; says where.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: expected the name of at least one dataset")
    parts = [_load(name) for name in cfg.DATASETS.TRAIN]
    check_num_classes(cfg, cfg.DATASETS.TRAIN[:1])
    is_video = cfg.MODEL.META_ARCHITECTURE == "VideoMaskFormer"
    sampler = None
    if is_video:
        records = take_over_classes(cfg.DATASETS.TRAIN, parts)
    else:
        _check_same_classes(cfg.DATASETS.TRAIN)
        records = parts[0] if len(parts) == 1 else _join(parts)
    if isinstance(records, list) and "annotations" in records[0]:
        records = _check_annotations(cfg, records)
    if is_video:
        records, sampler = mix_clips(records, cfg.INPUT.PSEUDO_CLIP.RATIO)
    return build_detection_train_loader(
        cfg, mapper=mapper or build_mapper(cfg, is_train=True), dataset=records, sampler=sampler
    )


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Mapper | None = None
) -> Iterable[list[Record]]:
    """Build a loader that gives every image of a dataset once, in batches of 1.

    Args:
        mapper: what maps a record; None for the one that the config names.

    Raises:
        ValueError: NUM_CLASSES does not fit the dataset.
    """
    records = _load(dataset_name)
    check_num_classes(cfg, [dataset_name])
    return build_detection_test_loader(
        records,
        mapper=mapper or build_mapper(cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def _load(name: str) -> Any:
    """Return the records of a dataset, or what else is registered for it."""
    return get_detection_dataset_dicts([name], filter_empty=False, check_consistency=False)


def _join(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, list) for part in parts):
        return [record for part in parts for record in part]
    return ConcatDataset(parts)


def _check_same_classes(names: Sequence[str]) -> None:
    for key in ("thing_classes", "stuff_classes"):
        lists = [getattr(MetadataCatalog.get(name), key, None) for name in names]
        for name, classes in zip(names, lists):
            if classes != lists[0]:
                raise ValueError(
                    f"DATASETS.TRAIN: {name} has other {key} than {names[0]}: {_short(classes)} "
                    f"and {_short(lists[0])}; datasets that train together need the same"
                )


def _short(classes: Sequence[str] | None) -> str:
    names = list(classes or ["none"])
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def _check_annotations(cfg: CfgNode, records: list[Record]) -> list[Record]:
    """Check categories and drop images without objects where DATALOADER says so."""
    for record in records:
        classes = [annotation["category_id"] for annotation in record["annotations"]]
        check_classes(classes, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, partial(_describe, record))
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = filter_images_with_only_crowd_annotations(records)
        if not records:
            raise ValueError(
                f"No image of {', '.join(cfg.DATASETS.TRAIN)} has an object; set "
                "DATALOADER.FILTER_EMPTY_ANNOTATIONS False to train on images without any"
            )
    classes = getattr(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]), "thing_classes", None)
    if classes:
        print_instances_class_histogram(records, classes)
    return records


def _describe(record: Record, index: int) -> str:
    """Return what messages call an annotation of a record."""
    name = record["file_name"] if "file_name" in record else f"video {record['video_id']}"
    return f"{name}: {describe(record['annotations'][index], index)}"
