"""Which evaluators score a dataset, those with official scripts among them."""

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import detectron2.evaluation as detectron2_evaluation
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ..config.architecture import meta_architecture
from ..errors import MissingPackageError, UnsupportedError, UserError
from ..formats.pillow import set_max_pixels
from .common import check_instances, check_scores
from .instance.evaluator import InstanceSegEvaluator
from .instance.mask_accuracy import MaskAccuracyEvaluator
from .panoptic.evaluator import PanopticEvaluator
from .semantic.evaluator import SemSegEvaluator
from .video.evaluator import YTVISEvaluator

Factory = Callable[[CfgNode, str, str], DatasetEvaluator]


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """Build what scores a model on a dataset.

    Args:
        cfg: MODEL.MASK_FORMER.TEST says which outputs the model has.
        dataset_name: its metadata's evaluator_type chooses a row of ``EVALUATORS``.
        output_folder: where predictions are written; by default ``inference`` in OUTPUT_DIR.

    Raises:
        NotImplementedError: unknown evaluator_type; lists the known ones.
        UserError: the model has none of the outputs that are scored on this dataset.
        ImportError: the dataset is scored by a package that is not installed.
    """
    set_max_pixels(cfg.INPUT.MAX_PIXELS)  # of maps, too
    if output_folder is None:
        output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    chosen = choose_evaluators(cfg, dataset_name)
    evaluators = [make(cfg, dataset_name, output_folder) for make in chosen]
    if meta_architecture(cfg) == "MaskClassifier":  # its masks are given, with their classes
        evaluators.insert(0, MaskAccuracyEvaluator(dataset_name))
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def choose_evaluators(cfg: CfgNode, dataset_name: str) -> list[Factory]:
    """Return which of ``EVALUATORS`` score a model on a dataset, without building them.

    Raises:
        NotImplementedError, UserError: as `build_evaluator`.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in EVALUATORS:
        raise UnsupportedError(
            f"{dataset_name}: expected an evaluator_type in its metadata among "
            f"{', '.join(sorted(EVALUATORS))}, got {kind!r}"
        )
    outputs = cfg.MODEL.MASK_FORMER.TEST
    chosen = [make for flag, make in EVALUATORS[kind] if flag is None or outputs[flag]]
    if not chosen:
        flags = " or ".join(str(flag) for flag, _ in EVALUATORS[kind])
        raise UserError(
            f"{dataset_name} ({kind}) needs at least one output to score: set {flags} in "
            "MODEL.MASK_FORMER.TEST"
        )
    return chosen


def _panoptic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return PanopticEvaluator(name, folder)


def _semantic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    boundary = cfg.MODEL.MASK_FORMER.TEST.BOUNDARY_METRICS
    return SemSegEvaluator(name, output_dir=folder, boundary_iou=boundary)


def _instances(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    boundary = cfg.MODEL.MASK_FORMER.TEST.BOUNDARY_METRICS
    tasks = ("bbox", "segm", "boundary") if boundary else None
    count = cfg.TEST.DETECTIONS_PER_IMAGE
    return InstanceSegEvaluator(
        name,
        tasks,
        output_dir=folder,
        max_dets_per_image=count,
        exif_rotation=cfg.INPUT.EXIF_ROTATION,
    )


def _video(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return YTVISEvaluator(name, output_dir=folder)


def _lvis(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return LVISEvaluator(name, output_dir=folder)


def _cityscapes_instances(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return CityscapesInstanceEvaluator(name)


def _cityscapes_semantic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return CityscapesSemSegEvaluator(name)


_PANOPTIC_DATA: list[tuple[str | None, Factory]] = [
    ("PANOPTIC_ON", _panoptic),
    ("INSTANCE_ON", _instances),
    ("SEMANTIC_ON", _semantic),
]

# evaluator_type: what is scored, each with the flag of MODEL.MASK_FORMER.TEST that it waits for
EVALUATORS: dict[str, list[tuple[str | None, Factory]]] = {
    "sem_seg": [(None, _semantic)],
    "coco": [(None, _instances)],
    "lvis": [(None, _lvis)],
    "ytvis": [(None, _video)],
    "coco_panoptic_seg": _PANOPTIC_DATA,
    "ade20k_panoptic_seg": _PANOPTIC_DATA,
    "mapillary_vistas_panoptic_seg": _PANOPTIC_DATA,
    "cityscapes_instance": [(None, _cityscapes_instances)],
    "cityscapes_sem_seg": [(None, _cityscapes_semantic)],
    "cityscapes_panoptic_seg": [
        ("PANOPTIC_ON", _panoptic),
        ("SEMANTIC_ON", _cityscapes_semantic),
        ("INSTANCE_ON", _cityscapes_instances),
    ],
}


class _Cityscapes:
    """What the two evaluators of Cityscapes share, beside detectron2's that follows in the bases.

    Args:
        dataset_name: a dataset with gt_dir and, for instances, thing_classes in its metadata.

    Raises:
        ImportError: cityscapesscripts is not installed.
    """

    _script: str

    def __init__(self, dataset_name: str):
        _require("cityscapesscripts", dataset_name)
        super().__init__(dataset_name)  # type: ignore[call-arg]

    def evaluate(self) -> dict[str, dict[str, float]]:
        module: Any = importlib.import_module(f"cityscapesscripts.evaluation.{self._script}")
        module.np = _NumpyOfOld()
        # It writes caches that nobody reads here, one into the current folder, and fails on the
        # numbers of today's numpy while doing so.
        module.writeDict2JSON = lambda value, path: None
        return super().evaluate() or {}  # type: ignore[misc]


class CityscapesInstanceEvaluator(_Cityscapes, detectron2_evaluation.CityscapesInstanceEvaluator):
    """AP and AP50 by the official scripts, in percent."""

    _script = "evalInstanceLevelSemanticLabeling"

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        _check_all_instances(inputs, outputs)
        super().process(inputs, outputs)


class CityscapesSemSegEvaluator(_Cityscapes, detectron2_evaluation.CityscapesSemSegEvaluator):
    """IoU and iIoU of classes and categories by the official scripts, in percent."""

    _script = "evalPixelLevelSemanticLabeling"

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            check_scores(output["sem_seg"], output["sem_seg"].argmax(dim=0), image["file_name"])
        super().process(inputs, outputs)


class LVISEvaluator(detectron2_evaluation.LVISEvaluator):
    """AP by LVIS's own API, in percent, also for rare, common and frequent classes.

    Args:
        dataset_name: a dataset with LVIS json as json_file in its metadata.
        tasks, distributed, output_dir, max_dets_per_image: as detectron2 has them.

    Raises:
        ImportError: lvis is not installed.
    """

    def __init__(self, dataset_name: str, *args: Any, **kwargs: Any):
        _require("lvis", dataset_name)
        super().__init__(dataset_name, *args, **kwargs)

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        _check_all_instances(inputs, outputs)
        super().process(inputs, outputs)

    def evaluate(self) -> dict[str, dict[str, float]]:
        importlib.import_module("lvis.eval").np = _NumpyOfOld()  # type: ignore[attr-defined]
        return super().evaluate() or {}


def _check_all_instances(inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
    for image, output in zip(inputs, outputs, strict=True):
        if "instances" in output:
            check_instances(output["instances"], f"image {image.get('image_id')}")


class _NumpyOfOld:
    """numpy, and names that it dropped (in 1.24 and 2.4) and the scripts still use."""

    float = float

    @staticmethod
    def in1d(array: Any, values: Any, invert: bool = False) -> np.ndarray:
        return np.isin(np.ravel(array), values, invert=invert)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _require(package: str, dataset_name: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f"{dataset_name} is scored by {package}, which is not installed: pip install {package}"
        )
