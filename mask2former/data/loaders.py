"""Data loaders for training and testing, built with detectron2's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

from .mappers import build_mapper
from .segmentations import describe

__all__ = ["build_test_loader", "build_train_loader", "check_num_classes"]

Record = dict[str, Any]
Mapper = Callable[[Record], Record]


def build_train_loader(cfg: CfgNode, mapper: Mapper | None = None) -> Iterable[list[Record]]:
    """An endless loader of batches for DATASETS.TRAIN.

    Reads DATALOADER (workers, sampler, FILTER_EMPTY_ANNOTATIONS, grouping by aspect ratio) and
    SOLVER.IMS_PER_BATCH as detectron2 does. Each worker has a seed of its own, drawn from torch's.

    Args:
        mapper: what maps a record; None for the one that the config names.

    Raises:
        ValueError: NUM_CLASSES does not fit a data set, a category does not exist, or no image is
            left; says where.
    """
    records = _load(cfg, cfg.DATASETS.TRAIN)
    if isinstance(records, list) and "annotations" in records[0]:
        records = _check_annotations(cfg, records)
    return build_detection_train_loader(
        cfg, mapper=mapper or build_mapper(cfg, is_train=True), dataset=records
    )


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Mapper | None = None
) -> Iterable[list[Record]]:
    """A loader that gives every image of a data set once, in batches of 1.

    Args:
        mapper: what maps a record; None for the one that the config names.

    Raises:
        ValueError: NUM_CLASSES does not fit the data set.
    """
    return build_detection_test_loader(
        _load(cfg, [dataset_name]),
        mapper=mapper or build_mapper(cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def check_num_classes(cfg: CfgNode, dataset_name: str) -> None:
    """Compares MODEL.SEM_SEG_HEAD.NUM_CLASSES with the classes of a data set that was loaded.

    A data set may have one number of classes for instances and another for regions of all kinds;
    either will do. Where its metadata name no classes, nothing is checked.

    Raises:
        ValueError: it is another number; says both.
    """
    metadata = MetadataCatalog.get(dataset_name)
    lists = [getattr(metadata, key, None) for key in ("thing_classes", "stuff_classes")]
    counts = sorted({len(classes) for classes in lists if classes})
    found = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if counts and found not in counts:
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {found}, the data set {dataset_name} has "
            f"{' or '.join(map(str, counts))} classes; set the key to that number"
        )


def _load(cfg: CfgNode, names: Sequence[str]) -> Any:
    """The records of the data sets, or what else is registered for them, with fitting classes."""
    if not names:
        raise ValueError("DATASETS.TRAIN is empty: expected the name of at least one data set")
    records = get_detection_dataset_dicts(names, filter_empty=False, check_consistency=False)
    for name in names:
        check_num_classes(cfg, name)
    return records


def _check_annotations(cfg: CfgNode, records: list[Record]) -> list[Record]:
    """Checks categories and drops images without objects where DATALOADER says so."""
    num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    for record in records:
        for i, annotation in enumerate(record["annotations"]):
            if not 0 <= annotation["category_id"] < num_classes:
                raise ValueError(
                    f"{record['file_name']}: {describe(annotation, i)} has class "
                    f"{annotation['category_id']}, the model has classes 0 to {num_classes - 1} "
                    "(MODEL.SEM_SEG_HEAD.NUM_CLASSES)"
                )
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
