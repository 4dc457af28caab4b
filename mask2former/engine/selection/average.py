"""A moving average of the weights, updated after every step of the optimizer.

Source: Polyak and Juditsky 1992 for averages of iterates; exponential ones as in Tarvainen and
Valpola 2017, with a decay that grows with the number of steps.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ...errors import UserError

logger = logging.getLogger(__name__)


def build_average(
    cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer
) -> "WeightAverage | None":
    """Return the average that SOLVER.EMA asks for, or None."""
    ema = cfg.SOLVER.EMA
    return WeightAverage(model, optimizer, ema.DECAY, ema.WARMUP) if ema.ENABLED else None


class WeightAverage:
    """The exponential moving average of a model's weights and of its floating-point buffers.

    After t steps the decay is t / (t + warmup), so that the average spans about the last
    1 / warmup of the steps so far, until that is longer than what ``decay`` allows.

    Args:
        model: not wrapped in DistributedDataParallel; copied.
        optimizer: of the model; the average follows its steps.
        decay: of the average in a step, at most; in 0..1.
        warmup: see above; 0 for ``decay`` from the first step on.

    Raises:
        UserError: numbers out of range.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, decay: float, warmup: float
    ) -> None:
        if not 0 <= decay < 1 or warmup < 0:
            raise UserError(
                "SOLVER.EMA: DECAY must be at least 0 and below 1, and WARMUP at least 0, not "
                f"{decay} and {warmup}"
            )
        self.decay = decay
        self.warmup = warmup
        self._model = model
        self._averaged = AveragedModel(model, multi_avg_fn=self._move, use_buffers=True).eval()
        self._averaged.requires_grad_(False)
        optimizer.register_step_post_hook(lambda *_: self._averaged.update_parameters(model))

    @property
    def updates(self) -> int:
        """How many steps the average has followed."""
        return int(self._averaged.n_averaged)

    @property
    def model(self) -> nn.Module:
        """A model in eval mode with the averaged weights; before the first step, with the last."""
        if not self.updates:
            self._averaged.module.load_state_dict(self._model.state_dict())
        return self._averaged.module

    def _move(self, averages: Sequence[Tensor], values: Sequence[Tensor], count: Any) -> None:
        """Move averages of one type towards new values."""
        if not averages[0].is_floating_point():
            for average, value in zip(averages, values):
                average.copy_(value)
            return
        steps = self.updates
        decay = min(self.decay, steps / (steps + self.warmup)) if self.warmup else self.decay
        torch._foreach_lerp_(list(averages), list(values), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by the names that the model has, and the number of steps."""
        return {"weights": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self._averaged.module.load_state_dict(state["weights"])
        self._averaged.n_averaged.fill_(state["updates"])
