"""Evaluation of models, as classmethods of the trainer, on detectron2's DefaultTrainer."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, verify_results
from detectron2.utils import comm
from torch import nn

from ..checkpoints.average_entry import average_beside
from ..checkpoints.checkpointer import Checkpointer, read_for_use
from ..config.architecture import meta_architecture
from ..config.loading import changed
from ..data import loaders
from ..data.agreement.class_order import match_classes
from ..errors import UnsupportedError
from ..evaluation import build_evaluator
from ..evaluation.common import takes_labels
from ..evaluation.results import write_results
from ..modeling.build import build_model, resolve_device
from ..modeling.postprocessing.switches import switched
from ..modeling.postprocessing.tta import SemanticSegmentorWithTTA
from ..overrides import replaceable
from .defaults import only_in_file, take_classes, validate
from .hooks import log_results
from .selection.scores import merged, scored

logger = logging.getLogger(__name__)

TTA_SUFFIX = "_TTA"


class EvaluatingTrainer(DefaultTrainer):
    """What a trainer evaluates with; `Trainer` is the whole.

    As in detectron2, a subclass may override any of the classmethods with those arguments that
    detectron2 and the published project have; the others here call what it says.
    """

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        with only_in_file():
            logger.info("Model:\n%s", model)
        size = sum(p.numel() for p in model.parameters()) / 1e6
        logger.info("Built %s, %.1f M parameters", cfg.MODEL.META_ARCHITECTURE, size)
        return model

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return loaders.build_test_loader(cfg, dataset_name)

    @classmethod
    @replaceable
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Return the evaluator of a dataset, which writes to OUTPUT_DIR/inference by default.

        Where several datasets are tested, each has a folder of its name in there.
        """
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            folder = os.path.join(folder, dataset_name)
        os.makedirs(folder, exist_ok=True)
        return build_evaluator(cfg, dataset_name, folder)

    @classmethod
    @replaceable
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None, *, suffix: str | None = None
    ) -> dict[str, Any]:
        """Evaluate ``model`` on each of DATASETS.TEST.

        Args:
            evaluators: one for each of DATASETS.TEST; by default those of `build_evaluator`.
            suffix: ends the names of tasks and of the output folder; by default "_TTA" for a
                `SemanticSegmentorWithTTA`, else none.

        Returns:
            {task: {metric: value}}, for several datasets within {dataset: ...}. Empty but in the
            first process, which also logs them and writes them.
        """
        if suffix is None:
            suffix = TTA_SUFFIX if isinstance(model, SemanticSegmentorWithTTA) else ""
        is_video = meta_architecture(cfg) == "VideoMaskFormer"
        folder = os.path.join(cfg.OUTPUT_DIR, f"inference{suffix}")
        names = list(cfg.DATASETS.TEST)
        match_classes(cfg, names)
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name, folder) for name in names]
        elif isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        found: dict[str, Any] = {}
        for name, evaluator in zip(names, evaluators, strict=True):
            loader = cls.build_test_loader(cfg, name)
            output = {"semantic_output": "labels"} if takes_labels(evaluator) else {}
            with switched(model, batch_by_size=True, **output):
                metrics = inference_on_dataset(model, loader, evaluator)
            found[name] = {f"{task}{suffix}": values for task, values in metrics.items()}
            if comm.is_main_process():
                log_results(name, found[name])
        results = found[names[0]] if len(found) == 1 else found
        if comm.is_main_process() and found:
            name = "scores.json" if is_video else "results.json"  # that is a video's submission
            write_results(os.path.join(folder, name), results, cfg=cfg)
        return results

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate the semantic scores of ``model``, averaged over the copies of TEST.AUG.

        Returns:
            As `test`, with the task "sem_seg_TTA".

        Raises:
            NotImplementedError, UserError: it is a model that this is not for.
        """
        model = _augmented(cfg, model)
        logger.info("Evaluating averages over TEST.AUG")
        outputs = {"SEMANTIC_ON": True, "INSTANCE_ON": False, "PANOPTIC_ON": False}
        opts = [w for k, on in outputs.items() for w in (f"MODEL.MASK_FORMER.TEST.{k}", on)]
        cfg = changed(cfg, *opts)
        folder = os.path.join(cfg.OUTPUT_DIR, f"inference{TTA_SUFFIX}")
        names = cfg.DATASETS.TEST
        results = cls.test(cfg, model, [cls.build_evaluator(cfg, name, folder) for name in names])
        return (
            _with_suffix(results)
            if len(names) == 1
            else {name: _with_suffix(tasks) for name, tasks in results.items()}
        )

    @classmethod
    def evaluate(cls, cfg: CfgNode, *, resume: bool = False) -> dict[str, Any]:
        """Build the model, load MODEL.WEIGHTS and evaluate.

        Args:
            resume: evaluate the last checkpoint in OUTPUT_DIR, where there is one, instead.

        Returns:
            As `scored`; with TEST.AUG.ENABLED also what `test_with_TTA` does.

        Raises:
            NotImplementedError, UserError: TEST.AUG.ENABLED with a model that it is not for.
        """
        cfg = resolve_device(cfg)
        validate(cfg, eval_only=True)
        model = cls.build_model(cfg)
        checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, min_match=cfg.MODEL.WEIGHTS_MIN_MATCH)
        if resume and checkpointer.has_checkpoint():
            cfg = changed(cfg, "MODEL.WEIGHTS", checkpointer.get_checkpoint_file())
        weights = cfg.MODEL.WEIGHTS
        content = read_for_use(cfg) if weights else None
        rest = checkpointer.load(weights, checkpointables=[], content=content)
        cfg = take_classes(cfg, model, rest)
        if cfg.TEST.AUG.ENABLED:
            _augmented(cfg, model)  # fails before the evaluation begins
        results = scored(cls.test, cfg, model, average_beside(cfg, model, rest))
        if cfg.TEST.AUG.ENABLED:
            results = merged(cfg, results, cls.test_with_TTA(cfg, model))
        if comm.is_main_process():
            verify_results(cfg, results)
        return results


def _augmented(cfg: CfgNode, model: nn.Module) -> SemanticSegmentorWithTTA:
    if meta_architecture(cfg) == "VideoMaskFormer":
        raise UnsupportedError("TEST.AUG.ENABLED is for images; set it to False for videos")
    return SemanticSegmentorWithTTA(cfg, model)


def _with_suffix(tasks: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{task.removesuffix(TTA_SUFFIX)}{TTA_SUFFIX}": values for task, values in tasks.items()
    }
