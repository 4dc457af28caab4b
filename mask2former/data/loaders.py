"""Data loaders for training and testing, built with detectron2's."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    print_instances_class_histogram,
)
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.utils import comm
from torch.utils.data import ConcatDataset

from ..annotations.findings import Findings
from ..classes import list_some
from ..config.architecture import meta_architecture
from ..errors import UserError
from ..formats.pillow import set_max_pixels
from ..formats.segmentations import describe
from .agreement.class_order import label_numbers, match_classes, match_classes_late
from .agreement.num_classes import check_classes, check_num_classes, class_names
from .agreement.object_counts import compare_with_queries
from .clips import ClipMapper
from .datasets.registered import read_dataset
from .given_masks.mapper import MaskDatasetMapper
from .mappers import DatasetMapper
from .sampling import choose_sampler, mix_clips
from .stream import TrainLoader
from .workers import WatchedLoader, WorkerMapper

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Mapper = Callable[[Record], Record]


def build_mapper(cfg: CfgNode, is_train: bool = True) -> DatasetMapper | ClipMapper:
    """Build the mapper for a config: of clips for VideoMaskFormer, of images and masks for
    MaskClassifier, else of images.

    Raises:
        UserError: INPUT.DATASET_MAPPER_NAME, which chooses that of images, is unknown. (The
            published scripts fall back on detectron2's mapper.)
    """
    if meta_architecture(cfg) == "VideoMaskFormer":
        return ClipMapper(cfg, is_train)
    if meta_architecture(cfg) == "MaskClassifier":
        return MaskDatasetMapper(cfg, is_train)
    return DatasetMapper(cfg, is_train)


def build_train_loader(cfg: CfgNode, mapper: Mapper | None = None) -> Iterable[list[Record]]:
    """Build an endless loader of batches for DATASETS.TRAIN.

    This reads DATALOADER (workers, sampler, FILTER_EMPTY_ANNOTATIONS, grouping by aspect ratio) and
    SOLVER.IMS_PER_BATCH as detectron2 does. The seed of the stream (`TrainLoader`) is drawn from
    NumPy's generator.

    Datasets whose classes are in another order are mapped by name, see `match_classes`.
    VideoMaskFormer trains on datasets of videos, of images with instances, which become clips, or
    of both, see `mix_clips`.

    Args:
        mapper: what maps a record; None for the one that the config names.

    Raises:
        UserError: NUM_CLASSES does not fit a dataset, a category does not exist, the datasets
            have different classes, or no image is left; says where.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN is empty: expected the name of at least one dataset")
    match_classes(cfg)
    parts = [_load(cfg, name, is_train=True) for name in cfg.DATASETS.TRAIN]
    check_num_classes(cfg, cfg.DATASETS.TRAIN[:1])
    is_video = meta_architecture(cfg) == "VideoMaskFormer"
    factors = None
    if is_video:
        records = take_over_classes(cfg.DATASETS.TRAIN, parts)
    else:
        _check_known(cfg)
        records = parts[0] if len(parts) == 1 else _join(parts)
    if isinstance(records, list) and "annotations" in records[0]:
        records = check_annotations(cfg, records)
    if is_video:
        records, factors = mix_clips(records, cfg.INPUT.PSEUDO_CLIP.RATIO)
    world = comm.get_world_size()
    loader = TrainLoader(
        records,
        _for_workers(cfg, mapper or build_mapper(cfg, is_train=True)),
        choose_sampler(cfg, records, factors),
        comm.shared_random_seed(),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // world,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        group_by_shape=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        rank=comm.get_rank(),
        world=world,
    )
    return WatchedLoader(loader, cfg.DATALOADER.NUM_WORKERS)


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Mapper | None = None
) -> Iterable[list[Record]]:
    """Build a loader that gives every image of a dataset once, in batches of 1.

    Args:
        mapper: what maps a record; None for the one that the config names.

    Raises:
        UserError: NUM_CLASSES or the names of the classes do not fit the dataset.
    """
    match_classes(cfg, [dataset_name])
    records = _load(cfg, dataset_name, is_train=False)
    check_num_classes(cfg, [dataset_name])
    mapper = _for_workers(cfg, mapper or build_mapper(cfg, is_train=False))
    num_workers = cfg.DATALOADER.NUM_WORKERS
    loader = build_detection_test_loader(records, mapper=mapper, num_workers=num_workers)
    return WatchedLoader(loader, num_workers)


def _for_workers(cfg: CfgNode, mapper: Mapper) -> Mapper:
    set_max_pixels(cfg.INPUT.MAX_PIXELS)
    return WorkerMapper(mapper, cfg.INPUT.MAX_PIXELS)


def take_over_classes(names: Sequence[str], parts: Sequence[Sequence[Record]]) -> list[Record]:
    """Join the records of datasets, with the classes of the first one for all.

    Classes are matched by name. Objects of classes that the first dataset lacks are left out, and
    so are the records of other datasets that have none left.

    Args:
        names: of registered datasets with ``thing_classes``.
        parts: their records.

    Raises:
        UserError: a dataset shares no class with the first.
    """
    wanted = getattr(MetadataCatalog.get(names[0]), "thing_classes", None)
    joined = list(parts[0])
    for name, part in zip(names[1:], parts[1:]):
        classes = getattr(MetadataCatalog.get(name), "thing_classes", None)
        if classes == wanted or not classes or not wanted:
            joined += part
            continue
        new_ids = {i: wanted.index(c) for i, c in enumerate(classes) if c in wanted}
        if not new_ids:
            raise UserError(
                f"DATASETS.TRAIN: {name} has no class of {names[0]}, whose classes are "
                f"{list_some(wanted)}"
            )
        logger.info("%s: %d of its %d classes are used", name, len(new_ids), len(classes))
        joined += [record for old in part if (record := _rename(old, new_ids))["annotations"]]
    return joined


def _rename(record: Record, new_ids: dict[int, int]) -> Record:
    annotations = [
        annotation | {"category_id": new_ids[annotation["category_id"]]}
        for annotation in record["annotations"]
        if annotation["category_id"] in new_ids
    ]
    return record | {"annotations": annotations}


def _load(cfg: CfgNode, name: str, *, is_train: bool) -> Any:
    """Return the records of a dataset, or what else is registered for it.

    Records with label maps say what the numbers there mean where that is not what mappers take
    them for, that is what they mean in the first training set.
    """
    known = class_names(cfg, name)
    loaded = read_dataset(name)
    if class_names(cfg, name) != known and match_classes_late(cfg, name, is_train):
        loaded = read_dataset(name)
    loaded.findings.raise_refused()
    loaded.log(name)
    if not len(loaded.records):
        raise UserError(f"dataset {name} has no image")
    if is_train and isinstance(loaded.records, list):
        findings = Findings(name)
        compare_with_queries(cfg, loaded.records, findings)
        for line in findings.summary():
            logger.warning("%s", line)
    if is_train and loaded.inventory:
        loaded.inventory.require_objects(loaded.findings)
    if is_train and loaded.sample:
        found = loaded.sample()
        found.raise_refused()
        for line in found.summary():
            logger.warning("%s (of a sample of the files)", line)
    numbers, first = label_numbers(cfg, name), (*cfg.DATASETS.TRAIN, name)[0]
    if isinstance(loaded.records, list) and numbers != label_numbers(cfg, first):
        return [r | numbers if "sem_seg_file_name" in r else r for r in loaded.records]
    return loaded.records


def _join(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, list) for part in parts):
        return [record for part in parts for record in part]
    return ConcatDataset(parts)


def _check_known(cfg: CfgNode) -> None:
    """Refuse datasets that train together where the names of only some of them are known."""
    names = cfg.DATASETS.TRAIN
    nameless = [name for name in names if not class_names(cfg, name)]
    if nameless and len(nameless) < len(names):
        raise UserError(
            f"DATASETS.TRAIN: the classes of {', '.join(nameless)} have no names in its metadata, "
            "by which datasets that train together are matched"
        )


def check_annotations(cfg: CfgNode, records: list[Record]) -> list[Record]:
    """Check categories and drop images without objects where DATALOADER says so.

    Raises:
        UserError: a category does not exist, or no image is left; says where.
    """
    for record in records:
        classes = [annotation["category_id"] for annotation in record["annotations"]]
        check_classes(classes, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, partial(_describe, record))
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = filter_images_with_only_crowd_annotations(records)
        if not records:
            raise UserError(
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
