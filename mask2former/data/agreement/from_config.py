"""The datasets of DATASETS.CUSTOM, and the classes that a config gets from its datasets."""

import inspect
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ...classes import Classes
from ...config.keys import CLASSES_FROM_DATA
from ...errors import UserError
from ..datasets.custom import PATHS, classes_as_in_file, register
from .class_order import match_classes
from .num_classes import check_num_classes, class_names, datasets_in_use

logger = logging.getLogger(__name__)


def register_custom(cfg: CfgNode, needed: Collection[str] | None = None) -> None:
    """Register the datasets of DATASETS.CUSTOM and fit the number and names of classes to them.

    Each entry is a mapping of the arguments of `register`, its name and task included. NUM_CLASSES
    counts as not set where it is -1 or detectron2's default; then it is that of MODEL.CLASSES or of
    the datasets of TRAIN and TEST. ``load_config`` makes it -1 where a config that names custom
    datasets inherits the number from one that does not. MODEL.CLASSES is filled, and datasets whose
    classes are in another order are brought to it, see `match_classes`.

    Args:
        cfg: not frozen; NUM_CLASSES and MODEL.CLASSES may be changed.
        needed: names of the datasets that are used; others are left out where they are missing or
            do not fit. None for all.

    Raises:
        FileNotFoundError, UserError: as `register` and `match_classes`; or NUM_CLASSES, or the
            number of classes of another dataset, differs from that of a custom one.
    """
    custom = [
        _register_entry(entry, index, cfg.DATASETS.BOXES_AS_MASKS, needed)
        for index, entry in enumerate(cfg.DATASETS.CUSTOM)
    ]
    for entry in cfg.DATASETS.CUSTOM:  # so that the config can be written to a file
        if "classes" in entry:
            entry.update(classes=classes_as_in_file(entry["classes"], entry["name"]))
    head = cfg.MODEL.SEM_SEG_HEAD
    used = datasets_in_use(cfg)
    counted = [name for name in used if name in custom or head.NUM_CLASSES == CLASSES_FROM_DATA]
    classes = Classes.from_config(cfg)
    lists = [classes.names] if classes else [class_names(cfg, name) for name in counted]
    not_set = (CLASSES_FROM_DATA, get_cfg().MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    if any(lists) and head.NUM_CLASSES in not_set:
        head.NUM_CLASSES = len(next(filter(None, lists)))
    for name in used:
        with _skips_unneeded(name, needed):
            check_num_classes(cfg, [name] if name in counted else [])
            match_classes(cfg, [name])
    classes = match_classes(cfg, [])
    if classes is not None:
        classes.write(cfg)


def _register_entry(
    entry: Any, index: int, boxes_as_masks: bool, needed: Collection[str] | None
) -> str:
    """Register an entry of DATASETS.CUSTOM and return its name."""
    where = f"DATASETS.CUSTOM, entry {index}"
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: expected a mapping of name, task, ..., got {entry!r}")
    parameters = inspect.signature(register).parameters
    unknown = [key for key in entry if key not in parameters]
    missing = [key for key in ("name", "task", "image_root") if not entry.get(key)]
    if unknown or missing:
        problem = f"unknown {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        raise UserError(f"{where}: {problem}; an entry may have {', '.join(parameters)}")
    for key in (key for key in PATHS if not isinstance(entry.get(key, ""), str | None)):
        raise UserError(f"{where}: {key} has to be a path, got {entry[key]!r}")
    values = {k: os.path.expanduser(v) if k in PATHS and v else v for k, v in entry.items()}
    with _skips_unneeded(entry["name"], needed):
        register(**{"boxes_as_masks": boxes_as_masks} | values)
    return entry["name"]


@contextmanager
def _skips_unneeded(name: str, needed: Collection[str] | None) -> Iterator[None]:
    """End the block at an error about a dataset that is not needed, which goes to the log."""
    try:
        yield
    except (OSError, UserError) as error:
        if needed is None or name in needed:
            raise
        logger.info("The dataset %s is left out, as it is not used: %s", name, error)
