"""Batches that pass the model in parts, and settings that follow the size of the batch."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from detectron2.config import CfgNode
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError

logger = logging.getLogger(__name__)


def in_parts(batch: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Return a batch as ``count`` parts of the same size.

    Raises:
        UserError: it cannot be divided so.
    """
    size, rest = divmod(len(batch), count)
    if rest or not size:
        raise UserError(
            f"SOLVER.ACCUMULATE is {count}, but a process has {len(batch)} images in a step, which "
            "that does not divide"
        )
    return [batch[i : i + size] for i in range(0, len(batch), size)]


def divided_by_step(model: nn.Module, parts: Sequence[Any]) -> AbstractContextManager | None:
    """Return a context in which the losses of parts add up to the loss of all parts as one batch.

    None where the model does not know how: a mean of the losses of the parts is the nearest then.

    Args:
        model: perhaps wrapped in DistributedDataParallel.
        parts: all that this process has in the step; every process has to call this.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    divided = getattr(inner, "divided_by_step", None)
    return divided(parts) if callable(divided) else None


def without_sync(model: nn.Module, wanted: bool) -> AbstractContextManager:
    """Return a context in which gradients stay with this process, for all parts but the last."""
    if wanted and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def scale_to_batch(cfg: CfgNode) -> CfgNode:
    """Return a config whose learning rate and schedule fit its batch, where it asks for that.

    SOLVER.REFERENCE_BATCH is the size that they were made for. With a batch k times as large, the
    learning rate becomes k times as large and everything that is counted in iterations becomes
    k times shorter, as detectron2 does it by processes (`DefaultTrainer.auto_scale_workers`).

    Raises:
        UserError: both keys for this are set, or a negative number.
    """
    solver, reference = cfg.SOLVER, cfg.SOLVER.REFERENCE_BATCH
    if reference in (0, solver.IMS_PER_BATCH) or solver.IMS_PER_BATCH < 1:  # refused later
        return cfg
    if reference < 0 or solver.REFERENCE_WORLD_SIZE:
        raise UserError(
            f"SOLVER.REFERENCE_BATCH is {reference} and REFERENCE_WORLD_SIZE is "
            f"{solver.REFERENCE_WORLD_SIZE}; set one of them above 0, and the other to 0"
        )
    scale = solver.IMS_PER_BATCH / reference
    cfg = cfg.clone()
    frozen = cfg.is_frozen()
    cfg.defrost()
    cfg.SOLVER.REFERENCE_BATCH = solver.IMS_PER_BATCH  # not scaled again
    cfg.SOLVER.BASE_LR = solver.BASE_LR * scale
    for name in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
        cfg.SOLVER[name] = scaled_iterations(solver[name], scale)
    cfg.SOLVER.STEPS = tuple(scaled_iterations(step, scale) for step in solver.STEPS)
    cfg.TEST.EVAL_PERIOD = scaled_iterations(cfg.TEST.EVAL_PERIOD, scale)
    if frozen:
        cfg.freeze()
    logger.info(
        "SOLVER.REFERENCE_BATCH: learning rate and schedule for batches of %d are scaled to %d: "
        "BASE_LR %g, MAX_ITER %d, STEPS %s, WARMUP_ITERS %d, CHECKPOINT_PERIOD %d, EVAL_PERIOD %d",
        reference,
        solver.IMS_PER_BATCH,
        cfg.SOLVER.BASE_LR,
        cfg.SOLVER.MAX_ITER,
        cfg.SOLVER.STEPS,
        cfg.SOLVER.WARMUP_ITERS,
        cfg.SOLVER.CHECKPOINT_PERIOD,
        cfg.TEST.EVAL_PERIOD,
    )
    return cfg


def scaled_iterations(iterations: int, scale: float) -> int:
    """Return how many iterations see as many images with a batch ``scale`` times as large.

    The result is at least 1; 0 and below, which mean never, stay.
    """
    return max(1, round(iterations / scale)) if iterations > 0 else iterations
