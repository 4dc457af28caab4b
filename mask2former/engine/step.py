"""One training step, in float32 or under autocast."""

import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..errors import UserError
from ..random_state import RandomState, random_state
from .accumulation import divided_by_step, in_parts, without_sync

logger = logging.getLogger(__name__)

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices natively; known on Linux only."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_autocast_dtype(
    device_type: str, amp_enabled: bool, dtype_name: str = "float16"
) -> torch.dtype | None:
    """Return the type of mixed-precision training, or None for plain float32, and log the choice.

    Args:
        dtype_name: of CUDA, "float16" or "bfloat16". CPUs have bfloat16, where they have any.

    Raises:
        UserError: another name.
    """
    if dtype_name not in AMP_DTYPES:
        names = '" or "'.join(AMP_DTYPES)
        raise UserError(f'SOLVER.AMP.DTYPE must be "{names}", not {dtype_name!r}')
    if not amp_enabled:
        dtype, reason = None, "SOLVER.AMP.ENABLED is False"
    elif device_type == "cuda":
        dtype = AMP_DTYPES[dtype_name]
        scaled = "with scaled gradients" if dtype == torch.float16 else "without scaled gradients"
        reason = f"mixed precision {scaled}"
    elif device_type == "cpu" and cpu_has_bf16():
        dtype, reason = torch.bfloat16, "mixed precision, which this CPU supports"
    else:
        dtype, reason = None, f"this {device_type} has no fast half precision"
    logger.info("Training on %s in %s: %s", device_type, dtype or torch.float32, reason)
    return dtype


class LossNotFiniteError(FloatingPointError):
    """A loss is not finite.

    Attributes:
        process: the first one in which it is not.
    """

    def __init__(self, message: str, process: int) -> None:
        super().__init__(message)
        self.process = process


class TrainStep(TrainerBase):
    """Forward, backward and update of one batch; stands in for detectron2's SimpleTrainer.

    All processes see the mean losses of all, so that all stop together where one is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        *,
        autocast_dtype: torch.dtype | None = None,
        accumulate: int = 1,
    ) -> None:
        """
        Args:
            model: returns a dict of scalar losses (or one scalar) for a batch; in training mode
                from here on.
            data_loader: endless; read from the first step on.
            autocast_dtype: of the forward pass; None for float32. With float16 the gradients are
                scaled.
            accumulate: parts in which a batch passes the model, for the same update.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.device = next(model.parameters()).device
        self.autocast_dtype = autocast_dtype
        self.accumulate = accumulate
        scaled = autocast_dtype == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self._batches: Iterator[Any] | None = None
        self.batch: Any = None  # the last one
        self.random_state: RandomState = {}  # before it passed the model

    def run_step(self) -> None:
        """Train on one batch.

        Raises:
            LossNotFiniteError: if a loss is not finite in some process; the weights are then those
                of the step before.
        """
        assert self.model.training, "the model was left in eval mode"
        start = time.perf_counter()
        if self._batches is None:
            self._batches = iter(self.data_loader)
        self.batch = None  # its memory is the next one's
        self.batch = next(self._batches)
        data_time = time.perf_counter() - start
        self.random_state = random_state()
        self._record(self.add_gradients(self.batch), data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def end_loading(self) -> None:
        """End the processes that load data; the next step starts new ones.

        Where the collector of cycles ends them instead, each keeps it waiting for seconds.
        """
        if isinstance(self._batches, Generator):
            self._batches.close()
        self._batches = None

    def add_gradients(self, batch: Any) -> dict[str, Tensor]:
        """Compute the gradients of a batch in place of those before; return its losses."""
        if self.accumulate == 1:
            losses = self._forward(batch)
            self.optimizer.zero_grad()
            self._backward(losses)
            return losses
        parts = in_parts(batch, self.accumulate)
        divided = divided_by_step(self.model, parts)
        share = 1 if divided else 1 / len(parts)
        sums: dict[str, Tensor] = {}
        self.optimizer.zero_grad()
        with divided or nullcontext():
            for i, part in enumerate(parts, 1):
                with without_sync(self.model, i < len(parts)):
                    losses = {name: loss * share for name, loss in self._forward(part).items()}
                    self._backward(losses)
                for name, loss in losses.items():
                    sums[name] = sums.get(name, 0) + loss.detach()
        return sums

    def _backward(self, losses: Mapping[str, Tensor]) -> None:
        self.grad_scaler.scale(torch.stack(list(losses.values())).sum()).backward()

    def _forward(self, batch: Any) -> dict[str, Tensor]:
        enabled = self.autocast_dtype is not None
        with torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=enabled):
            losses = self.model(batch)
        if isinstance(losses, Tensor):
            return {"loss": losses}
        return {name: loss.float() for name, loss in losses.items()}

    def _record(self, losses: Mapping[str, Tensor], data_time: float) -> None:
        """Put the losses, as means over the processes, and the longest wait into the storage."""
        values = torch.stack([loss.detach() for loss in losses.values()])
        rows = comm.all_gather([*values.tolist(), data_time])  # the one wait for the device
        names = list(losses)
        bad = [
            f"{name} is {r[i]}" + (f" in process {rank}" if len(rows) > 1 else "")
            for rank, r in enumerate(rows)
            for i, name in enumerate(names)
            if not math.isfinite(r[i])
        ]
        storage = get_event_storage()
        if bad:
            wrong = [rank for rank, r in enumerate(rows) if not all(map(math.isfinite, r))]
            raise LossNotFiniteError(
                f"the loss is not finite at iteration {storage.iter}: {', '.join(bad)}", wrong[0]
            )
        means = {name: sum(r[i] for r in rows) / len(rows) for i, name in enumerate(names)}
        storage.put_scalar("data_time", max(r[-1] for r in rows))
        storage.put_scalar("total_loss", sum(means.values()))
        storage.put_scalars(**means)

    def state_dict(self) -> dict[str, Any]:
        state = {**super().state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
