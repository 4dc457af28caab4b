"""Which metrics the evaluators of a config will give, before there is anything to evaluate."""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..config.architecture import meta_architecture
from ..errors import UserError
from ..formats.json_files import read_json
from . import build

_AP = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_AR = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_PQ = tuple(name + end for end in ("", "_th", "_st") for name in ("PQ", "SQ", "RQ"))
_ACCURACY = ("accuracy", "class accuracy", "accuracy-", "accuracy-no object")
_OF_CLASS = re.compile(r"/(\w+-)")

# {task: names}; those that end in a dash are followed by the name of a class.
Tasks = dict[str, tuple[str, ...]]


def metric_names(cfg: CfgNode, dataset_name: str, *, of_classes: bool) -> list[str] | None:
    """Return what `build_evaluator`'s evaluators may give on a dataset, as "task/metric".

    They give less where the ground truth has no annotations.

    Args:
        of_classes: list the metrics of single classes, too. Their names are those of metadata and
            of the annotation files, which are read for them.

    Returns:
        None where an evaluator is another's, or the names of the classes are not known.

    Raises:
        NotImplementedError, UserError: nothing scores this dataset, see `build_evaluator`.
    """
    chosen = build.choose_evaluators(cfg, dataset_name)
    if any(make not in _GIVEN for make in chosen):
        return None
    tables = [_GIVEN[make](cfg) for make in chosen]
    if meta_architecture(cfg) == "MaskClassifier":
        tables.append({"mask_classes": _ACCURACY})
    found = [
        f"{task}/{name}" for tasks in tables for task, names in tasks.items() for name in names
    ]
    if not of_classes:
        return [name for name in found if not is_of_class(name)]
    classes = _class_names(dataset_name)
    if not classes:
        return None
    return [n + c for n in found for c in (classes if n.endswith("-") else ("",))]


def is_of_class(name: str) -> bool:
    """Tell whether a metric, "task/metric" or "dataset/task/metric", is that of a single class."""
    return _OF_CLASS.search(name) is not None


def unknown_metric(key: str, metric: str, names: Iterable[str]) -> UserError:
    """Return the error of a config key that names a metric which is not among ``names``.

    Those of the same kind are listed: of single classes only where the key names one.
    """
    kind = _OF_CLASS.search(metric)
    every = list(names)
    alike = [n for n in every if kind and (of := _OF_CLASS.search(n)) and of[1] == kind[1]]
    totals = [n for n in every if not is_of_class(n)]
    listed = ", ".join(alike or totals or every) or "none"
    more = "" if alike or not every else ', and those of single classes, such as "segm/AP-NAME"'
    return UserError(
        f"{key} is {metric!r}, which the evaluation does not give; there are {listed}{more}"
    )


def _class_names(dataset_name: str) -> Sequence[str]:
    metadata = MetadataCatalog.get(dataset_name)
    names = [*(metadata.get(f"{kind}_classes", None) or () for kind in ("thing", "stuff"))]
    files = [metadata.get(key, None) for key in ("json_file", "panoptic_json")]
    for path in files:
        if path and os.path.isfile(path):
            content = read_json(path)
            categories = content.get("categories", ()) if isinstance(content, dict) else ()
            names.append([str(c.get("name", c.get("id"))) for c in categories])
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def _panoptic(cfg: CfgNode) -> Tasks:
    return {"panoptic_seg": (*_PQ, "PQ-")}


def _instances(cfg: CfgNode) -> Tasks:
    count = cfg.TEST.DETECTIONS_PER_IMAGE
    more = ("AP@100", f"AR{count}") if count > 100 else ()
    names = (*_AP, *_AR, *more, "AP-")
    boundary = ("boundary",) if cfg.MODEL.MASK_FORMER.TEST.BOUNDARY_METRICS else ()
    return dict.fromkeys(("bbox", "segm", *boundary), names)


def _semantic(cfg: CfgNode) -> Tasks:
    names = ("mIoU", "fwIoU", "mACC", "pACC", "IoU-", "ACC-")
    boundary = ("mBoundaryIoU", "BoundaryIoU-")
    return {"sem_seg": names + boundary * cfg.MODEL.MASK_FORMER.TEST.BOUNDARY_METRICS}


_GIVEN: dict[build.Factory, Callable[[CfgNode], Tasks]] = {
    build._panoptic: _panoptic,
    build._instances: _instances,
    build._semantic: _semantic,
    build._video: lambda cfg: {"segm": (*_AP, "AR1", "AR10", "AP-")},
    build._lvis: lambda cfg: dict.fromkeys(("bbox", "segm"), (*_AP, "APr", "APc", "APf")),
    build._cityscapes_instances: lambda cfg: {"segm": ("AP", "AP50")},
    build._cityscapes_semantic: lambda cfg: {"sem_seg": ("IoU", "iIoU", "IoU_sup", "iIoU_sup")},
}
