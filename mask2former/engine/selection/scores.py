"""All that an evaluation scores: the weights, their average, the loss on the test sets."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from ...config.loading import changed
from ...evaluation.metric_names import is_of_class, metric_names, unknown_metric
from ..distributed import share_buffers
from .validation_loss import validation_loss

logger = logging.getLogger(__name__)

EMA_SUFFIX = "_EMA"
Results = dict[str, Any]


def scored(
    test: Callable[[CfgNode, nn.Module], Results],
    cfg: CfgNode,
    model: nn.Module,
    average: nn.Module | None = None,
) -> Results:
    """Evaluate a model, and the average of its weights as TEST.EMA says.

    Args:
        test: evaluates a model on DATASETS.TEST and returns {task: {metric: value}}, within
            {dataset: ...} where there are several.
        average: the model with averaged weights, where there is one.

    Returns:
        what ``test`` does; with TEST.LOSS also the task "loss". TEST.EMA "beside" adds the tasks of
        the average, whose names end in "_EMA"; its files are in the folder OUTPUT_DIR/ema.
    """
    if average is not None and cfg.TEST.EMA == "instead":
        model, average = average, None
    share_buffers(model)
    results = _with_loss(cfg, model, test(cfg, model))
    if average is None or cfg.TEST.EMA == "never":
        return results
    logger.info("Evaluating the moving average of the weights")
    share_buffers(average)
    beside = changed(cfg, "OUTPUT_DIR", os.path.join(cfg.OUTPUT_DIR, "ema"))
    return merged(cfg, results, _with_loss(beside, average, test(beside, average)), EMA_SUFFIX)


def averaged(cfg: CfgNode, metric: str) -> bool:
    """Tell whether a metric of `scored` is that of the average, where there is one."""
    return cfg.TEST.EMA == "instead" or f"{EMA_SUFFIX}/" in metric


def check_best_metric(cfg: CfgNode) -> None:
    """Check that `scored` can give TEST.BEST.METRIC, where the evaluators are those of the package.

    Raises:
        UserError: it cannot; lists what there will be.
        NotImplementedError, UserError: nothing scores a dataset, see `build_evaluator`.
    """
    metric = cfg.TEST.BEST.METRIC
    if not metric:
        return
    suffixes = [""]
    if cfg.SOLVER.EMA.ENABLED and cfg.TEST.EMA == "beside":
        suffixes.append(EMA_SUFFIX)
    found: list[str] = []
    for dataset in cfg.DATASETS.TEST:
        names = metric_names(cfg, dataset, of_classes=is_of_class(metric))
        if names is None:
            return
        losses = [f"loss/{kind}" for kind in ("total", "ce", "mask", "dice")]
        prefix = f"{dataset}/" if len(cfg.DATASETS.TEST) > 1 else ""
        tasks = [name.split("/", 1) for name in names + losses * cfg.TEST.LOSS]
        found += [f"{prefix}{task}{s}/{name}" for s in suffixes for task, name in tasks]
    if metric not in found:
        raise unknown_metric("TEST.BEST.METRIC", metric, found)


def merged(cfg: CfgNode, results: Results, more: Results, suffix: str = "") -> Results:
    """Return results with the tasks of others, whose names get a suffix."""
    if len(cfg.DATASETS.TEST) == 1:
        return {**results, **{f"{task}{suffix}": values for task, values in more.items()}}
    joined = dict(results)
    for name, tasks in more.items():
        added = {f"{task}{suffix}": values for task, values in tasks.items()}
        joined[name] = {**joined.get(name, {}), **added}
    return joined


def _with_loss(cfg: CfgNode, model: nn.Module, results: Results) -> Results:
    if not cfg.TEST.LOSS:
        return results
    losses = {name: {"loss": validation_loss(cfg, model, name)} for name in cfg.DATASETS.TEST}
    if not comm.is_main_process():
        return results
    for name, tasks in losses.items():
        logger.info("Loss on %s: %s", name, _in_words(tasks["loss"]))
    more = next(iter(losses.values())) if len(losses) == 1 else losses
    return merged(cfg, results, more)


def _in_words(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
