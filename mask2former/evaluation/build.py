"""Which evaluators score a dataset, those with official scripts among them."""

import os
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ..config.architecture import meta_architecture
from ..errors import UnsupportedError, UserError
from ..formats.pillow import set_max_pixels
from .instance.evaluator import InstanceSegEvaluator
from .instance.mask_accuracy import MaskAccuracyEvaluator
from .official import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator, LVISEvaluator
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
