"""One training step, in float32 or under autocast, and the order of the data over all steps.

detectron2's training samplers make an endless stream of indices from one seed. With the same seed
and the indices used so far left out, a resumed run sees the images that the interrupted one would
have seen next: exactly so without loader workers and without aspect-ratio grouping, else to within
the few batches that workers and groups hold ready. Random numbers of augmentations and of the model
are not restored.
"""

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.utils.data import Sampler

from ..random_state import RandomState, random_state

logger = logging.getLogger(__name__)


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices natively; known on Linux only."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_autocast_dtype(device_type: str, amp_enabled: bool) -> torch.dtype | None:
    """Return the type of mixed-precision training: float16 on CUDA, bfloat16 on CPUs that have it.

    None stands for plain float32. The choice is logged.
    """
    if not amp_enabled:
        dtype, reason = None, "SOLVER.AMP.ENABLED is False"
    elif device_type == "cuda":
        dtype, reason = torch.float16, "mixed precision with scaled gradients"
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
    ) -> None:
        """
        Args:
            model: returns a dict of scalar losses (or one scalar) for a batch; in training mode
                from here on.
            data_loader: endless; read from the first step on.
            autocast_dtype: of the forward pass; None for float32. With float16 the gradients are
                scaled.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.device = next(model.parameters()).device
        self.autocast_dtype = autocast_dtype
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

    def add_gradients(self, batch: Any) -> dict[str, Tensor]:
        """Compute the gradients of a batch in place of those before; return its losses."""
        losses = self._forward(batch)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        return losses

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


class _SkippingSampler(Sampler[int]):
    """The indices of another sampler without the first ``count``."""

    def __init__(self, sampler: Sampler[int], count: int) -> None:
        self.sampler = sampler
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.sampler), self.count, None)


def get_sampler_seed(data_loader: Any) -> int | None:
    """Return the seed of the stream behind ``data_loader``, or None where it has none."""
    source = _find_source(data_loader)
    return None if source is None else getattr(source.sampler, "_seed", None)


def resume_data_order(data_loader: Any, seed: int | None, count: int) -> bool:
    """Seed the stream behind ``data_loader`` anew and leave out what was used already.

    To be called before the loader is first iterated.

    Args:
        seed: what `get_sampler_seed` returned in the interrupted run.
        count: images that this process (not all processes) has used.

    Returns:
        False, with a line in the log, if the loader's sampler is of an unknown kind; its order then
        starts anew.
    """
    source = _find_source(data_loader)
    if seed is None or source is None or not hasattr(source.sampler, "_seed"):
        logger.info("The order of the training data starts anew: its sampler cannot be resumed")
        return False
    source.sampler._seed = seed  # detectron2's samplers offer no other way
    source.sampler = _SkippingSampler(source.sampler, count)
    return True


def _find_source(data_loader: Any) -> Any:
    """Return what holds the training sampler: the innermost ``dataset`` that has one."""
    found, node = None, getattr(data_loader, "dataset", None)
    while node is not None:
        if isinstance(getattr(node, "sampler", None), Sampler):
            found = node
        node = getattr(node, "dataset", None)
    return found
