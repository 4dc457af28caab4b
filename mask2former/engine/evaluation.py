"""Parts of the trainer's evaluation: changed configs, names of files, the log of results."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import print_csv_format
from torch import nn

from .defaults import only_in_file

logger = logging.getLogger(__name__)


def with_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return a model that averages the semantic scores of ``model`` over TEST.AUG.

    Raises:
        NotImplementedError, ValueError: ``model`` is for videos, or gives no semantic scores.
    """
    from ..modeling.postprocessing.tta import SemanticSegmentorWithTTA

    if cfg.MODEL.META_ARCHITECTURE == "VideoMaskFormer":
        raise NotImplementedError("TEST.AUG.ENABLED is for images; set it to False for videos")
    return SemanticSegmentorWithTTA(cfg, model)


def with_weights(cfg: CfgNode, weights: str) -> CfgNode:
    """Return a copy whose MODEL.WEIGHTS are those that the results will be of."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights
    cfg.freeze()
    return cfg


def semantic_only(cfg: CfgNode) -> CfgNode:
    """Return a copy that asks for the evaluation of semantic output alone."""
    cfg = cfg.clone()
    cfg.defrost()
    outputs = cfg.MODEL.MASK_FORMER.TEST
    outputs.SEMANTIC_ON, outputs.INSTANCE_ON, outputs.PANOPTIC_ON = True, False, False
    return cfg


def published_autocast(cfg: CfgNode) -> torch.autocast:
    """Return half precision on CUDA for videos; images are evaluated in full precision."""
    video = cfg.MODEL.META_ARCHITECTURE == "VideoMaskFormer"
    return torch.autocast("cuda", enabled=video and torch.cuda.is_available())


def results_name(cfg: CfgNode) -> str:
    """Return the file of all figures: not results.json for video, whose submission that is."""
    video = cfg.MODEL.META_ARCHITECTURE == "VideoMaskFormer"
    return "scores.json" if video else "results.json"


def join_results(results: dict[str, Any], added: Mapping[str, Any], several: bool) -> None:
    """Add tasks to results in place; with ``several``, dataset by dataset."""
    for name, tasks in added.items() if several else [("", added)]:
        (results[name] if several else results).update(tasks)


def log_results(name: str, results: Mapping[str, Any]) -> None:
    """Log one line for each task, without the metrics of single classes ("AP-dog")."""
    with only_in_file():
        print_csv_format(results)  # detectron2's form, which scripts look for in log.txt
    lines = []
    for task, metrics in results.items():
        shown = [f"{k} {v:.2f}" for k, v in metrics.items() if "-" not in k]
        lines.append(f"  {task}: {'  '.join(shown)}")
    logger.info("Results on %s:\n%s", name, "\n".join(lines))
