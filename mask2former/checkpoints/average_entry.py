"""The moving average of the weights in a checkpoint, beside the weights themselves."""

import copy
import logging
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from .loading import load_into

logger = logging.getLogger(__name__)

ENTRY = "ema"


def uses_average(cfg: CfgNode, how: str = "instead") -> bool:
    """Tell whether evaluation and prediction use the average "instead" of the weights, or the
    former "beside" them."""
    return bool(cfg.SOLVER.EMA.ENABLED) and how == cfg.TEST.EMA


def with_average(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the content of a checkpoint with the average, where it has one, as its weights.

    Args:
        content: what `Checkpointer.read` returns.
        source: what to call the checkpoint.
    """
    average = content.get(ENTRY)
    if average is None or not average["updates"]:
        return dict(content)
    logger.info("%s: taking the moving average of the weights (TEST.EMA)", source)
    return {**content, "model": average["weights"]}


def for_use(cfg: CfgNode, content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the content of a checkpoint with the average as its weights where ``cfg`` says so."""
    return with_average(content, source) if uses_average(cfg) else dict(content)


def average_beside(cfg: CfgNode, model: nn.Module, content: Mapping[str, Any]) -> nn.Module | None:
    """Return a copy of a model with the average, where the config uses it beside the weights and
    the content of the checkpoint has one."""
    average = content.get(ENTRY)
    if average is None or not uses_average(cfg, "beside"):
        return None
    copied = copy.deepcopy(model)
    load_into(copied, average["weights"], source="the moving average")
    return copied
