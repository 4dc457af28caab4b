"""The start of every run: checks that fail early and clearly, log files, seeds."""

import argparse
import logging
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from torch import nn

from ..classes import Classes, metadata_of
from ..config.loading import flat_items
from ..data.agreement.class_order import match_classes
from ..data.agreement.num_classes import check_num_classes, datasets_in_use
from ..data.datasets.cityscapes import require_cityscapes
from ..data.datasets.common import require_registered
from ..errors import UserError
from ..formats.atomic import atomic_path
from ..modeling.meta_arch.base import BaseModel
from ..threads import describe_threads
from .report.facts import write_run_facts

logger = logging.getLogger(__name__)

EMA_USES = ("instead", "beside", "never")
# The least that keys of a training may be.
_LEAST = {
    1: (
        "SOLVER.IMS_PER_BATCH",
        "SOLVER.MAX_ITER",
        "SOLVER.LOG_PERIOD",
        "SOLVER.CHECKPOINT_PERIOD",
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES",
        "MODEL.MASK_FORMER.TRAIN_NUM_POINTS",
    ),
    0: (
        "SOLVER.REFERENCE_WORLD_SIZE",
        "SOLVER.BASE_LR",
        "SOLVER.BACKBONE_MULTIPLIER",
        "SOLVER.MOMENTUM",
        "SOLVER.WEIGHT_DECAY",
        "SOLVER.WEIGHT_DECAY_NORM",
        "SOLVER.WEIGHT_DECAY_EMBED",
        "SOLVER.WARMUP_ITERS",
        "SOLVER.WARMUP_FACTOR",
        "SOLVER.EMA.WARMUP",
        "DATALOADER.NUM_WORKERS",
    ),
}
_PANOPTIC_PATHS = ("image_root", "panoptic_root", "panoptic_json")
_OTHER_PATHS = ("image_root", "image_dir", "json_file", "sem_seg_root", "gt_dir")


def setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Prepare the output folder, the log files and the random generators of this process.

    Like detectron2's ``default_setup``, but the environment and the full config go to log.txt
    without filling the screen, and config.yaml is written atomically.

    Args:
        args: logged; ``eval_only`` is read.

    Raises:
        OSError: if OUTPUT_DIR cannot be written.
    """
    check_output_folder(cfg.OUTPUT_DIR)
    rank = comm.get_rank()
    for name, short in (("fvcore", "fvcore"), ("detectron2", "d2"), ("mask2former", "m2f")):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name=name, abbrev_name=short)
    # Warns that there is no CUDA, which is no fault and is said below.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    logger.info("Process %d of %d, output in %s", rank, comm.get_world_size(), cfg.OUTPUT_DIR)
    logger.info("%s", describe_threads())
    with only_in_file():
        logger.info("Environment:\n%s", collect_env_info())
        logger.info("Arguments: %s", args)
        logger.info("Config:\n%s", cfg.dump())
    if comm.is_main_process():
        with atomic_path(Path(cfg.OUTPUT_DIR, "config.yaml")) as path:
            path.write_text(cfg.dump())
        if not getattr(args, "eval_only", False):
            write_run_facts(cfg, args)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


@contextmanager
def only_in_file() -> Iterator[None]:
    """Keep messages below warnings off the screen, for those that only log.txt should hold."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "mask2former")]
    screens = {
        handler
        for log in loggers
        for handler in log.handlers
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
    }
    levels = {handler: handler.level for handler in screens}
    for handler in screens:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in levels.items():
            handler.setLevel(level)


def validate(cfg: CfgNode, *, eval_only: bool = False) -> None:
    """Check what would else fail late or obscurely. Read no data and build no model.

    Args:
        cfg: read are OUTPUT_DIR, DATASETS, MODEL.SEM_SEG_HEAD.NUM_CLASSES, MODEL.CLASSES,
            SOLVER.IMS_PER_BATCH.
        eval_only: whether the training data may be missing.

    Raises:
        OSError: OUTPUT_DIR cannot be written, or the files of a dataset are missing.
        UserError: an unknown dataset, a number of classes that does not fit, a batch that cannot
            be divided among the processes.
    """
    check_output_folder(cfg.OUTPUT_DIR)
    if not eval_only and not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN is empty; it must name at least one dataset")
    test = list(cfg.DATASETS.TEST)
    for name in test if eval_only else (*cfg.DATASETS.TRAIN, *test):
        check_dataset(name)
    used = test if eval_only else datasets_in_use(cfg)
    check_num_classes(cfg, used)
    match_classes(cfg, used)
    if cfg.TEST.EMA not in EMA_USES:
        raise UserError(f"TEST.EMA must be one of {', '.join(EMA_USES)}, not {cfg.TEST.EMA!r}")
    if not eval_only:
        _check_training(cfg)
        check_processes(cfg)


def take_classes(cfg: CfgNode, model: nn.Module, checkpoint: Mapping[str, Any]) -> CfgNode:
    """Return ``cfg`` with the classes that a checkpoint names, and bring the test data to them.

    They are those of its weights, whatever order the data has.

    Args:
        model: with the checkpoint's weights; told which classes are things.
        checkpoint: what `Checkpointer.load` returns.

    Raises:
        UserError: a test set has other classes; names them.
    """
    classes = Classes.from_checkpoint(checkpoint)
    if classes is None:
        return cfg
    match_classes(cfg, cfg.DATASETS.TEST, classes)
    if len(classes.names) != cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:  # of data without names
        return cfg
    cfg = classes.in_config(cfg)
    if isinstance(model, BaseModel):
        model.metadata = metadata_of(cfg, next(iter(cfg.DATASETS.TRAIN), None))
    return cfg


def check_processes(cfg: CfgNode) -> None:
    """Check that the training can be divided among the processes.

    Raises:
        UserError: a batch that cannot be divided equally, or norms that only CUDA can share.
    """
    batch, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which {processes} processes cannot share equally; "
            f"set it to a multiple of {processes}"
        )
    parts = cfg.SOLVER.ACCUMULATE
    if parts < 1 or batch // processes % parts:
        raise UserError(
            f"SOLVER.ACCUMULATE is {parts}, which does not divide the {batch // processes} images "
            f"that each process has of SOLVER.IMS_PER_BATCH {batch}; set it to a divisor of that"
        )
    if processes == 1 or cfg.MODEL.DEVICE.startswith("cuda"):
        return
    for name in ("RESNETS", "SEM_SEG_HEAD"):
        if cfg.MODEL[name].NORM == "SyncBN":
            raise UserError(
                f"MODEL.{name}.NORM is SyncBN, which several processes can use on CUDA only; on "
                "CPUs, naiveSyncBN does the same"
            )


def _check_training(cfg: CfgNode) -> None:
    values = dict(flat_items(cfg))
    for least, names in _LEAST.items():
        for name in names:
            value = values[name]  # of weight decays None stands for that of the other weights
            if value is not None and not least <= value < math.inf:
                raise UserError(f"{name}: expected {least} or more, got {value}")
    best = cfg.TEST.BEST
    if best.PATIENCE and not best.METRIC:
        raise UserError(
            f"TEST.BEST.PATIENCE is {best.PATIENCE}, but TEST.BEST.METRIC is empty: set the metric "
            'that is to get better, such as "segm/AP", or PATIENCE to 0'
        )
    if cfg.TRAINING.PROGRESS not in ("line", "bar"):
        raise UserError(
            f"TRAINING.PROGRESS: expected 'line' or 'bar', got {cfg.TRAINING.PROGRESS!r}"
        )


def check_output_folder(folder: str) -> None:
    """Make ``folder`` where it is missing and write a file into it for a moment.

    Raises:
        OSError: of the kind that the system reports, with what to do.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            f"OUTPUT_DIR {folder!r} cannot be written ({error.strerror}); choose another folder "
            "with OUTPUT_DIR PATH at the end of the command"
        ) from error


def check_dataset(name: str) -> None:
    """Check that a dataset is registered and that the files which its metadata names are there.

    Raises:
        UserError: it is not registered; names the nearest ones.
        FileNotFoundError: names the missing path.
    """
    require_registered(name)
    require_cityscapes(name)
    missing = _missing_path(name)
    if missing is None:
        return
    with suppress(AssertionError):
        try:
            DatasetCatalog.get(name)  # fails, if it is ours with how to prepare the data
        except FileNotFoundError as error:
            if error.errno is None:  # else it is the system's, which says less than the one below
                raise
    raise FileNotFoundError(
        f"dataset {name}: {missing} is missing. The environment variable DETECTRON2_DATASETS "
        "names the folder of the datasets; datasets/README.md tells how to prepare them"
    )


def _missing_path(name: str) -> str | None:
    metadata = MetadataCatalog.get(name)
    # Panoptic sets name instance and semantic annotations too, which not every use of them needs.
    keys = _PANOPTIC_PATHS if metadata.get("panoptic_json", None) else _OTHER_PATHS
    paths = [metadata.get(key, None) for key in keys]
    return next((path for path in paths if path and not PathManager.exists(path)), None)
