"""Writers that send the scalars of a training to W&B or MLflow.

Their packages are imported where TRAINING.TRACKERS names them, and nowhere else. Where they send to
is set as for all that use them: by their environment variables (WANDB_MODE, WANDB_PROJECT;
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME) and files.
"""

import importlib
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from ...config.loading import flat_items
from ...errors import MissingPackageError, UserError

logger = logging.getLogger(__name__)


class _Tracker(EventWriter):
    """What writers to trackers share: each value is sent once, as detectron2's JSONWriter does.

    A tracker that fails is left out from then on, with a warning: training goes on.

    Args:
        cfg: of the training; sent as its parameters with the first values.
        window_size: number of latest iterations whose median is sent.

    Raises:
        MissingPackageError: the package is not installed.
    """

    module: str
    package: str

    def __init__(self, cfg: CfgNode, window_size: int = 20) -> None:
        self._cfg = cfg
        self._window = window_size
        self._sent = -1
        self._state = "new"  # then "started", at last "ended"
        try:
            self._api: Any = importlib.import_module(self.module)
        except ImportError as error:
            raise MissingPackageError(
                f"TRAINING.TRACKERS names {self.module}, which is not installed: "
                f"pip install {self.package}"
            ) from error

    def write(self) -> None:
        """Send what is new in the current storage, an iteration after the other."""
        by_iteration: dict[int, dict[str, float]] = {}
        latest = get_event_storage().latest_with_smoothing_hint(self._window)
        for name, (value, iteration) in latest.items():
            if iteration > self._sent and math.isfinite(value):
                by_iteration.setdefault(iteration, {})[name] = value
        self._sent = max([self._sent, *by_iteration])
        self._try(lambda: self._send_all(by_iteration))

    def close(self) -> None:
        if self._state == "started":
            self._try(self._end)
        self._state = "ended"

    def _send_all(self, by_iteration: Mapping[int, Mapping[str, float]]) -> None:
        if self._state == "new":
            self._start(self._cfg, Path(self._cfg.OUTPUT_DIR).resolve().name)
            self._state = "started"
        for iteration in sorted(by_iteration):
            self._send(by_iteration[iteration], iteration)

    def _try(self, action: Callable[[], None]) -> None:
        if self._state == "ended":
            return
        try:
            action()
        except Exception as error:  # of any kind, by the package and by its network
            self._state = "ended"
            logger.warning("%s gets nothing any more: %s", self.module, error)

    def _start(self, cfg: CfgNode, name: str) -> None:
        raise NotImplementedError

    def _send(self, scalars: Mapping[str, float], iteration: int) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class WandbWriter(_Tracker):
    """Send scalars to Weights & Biases, or with WANDB_MODE=offline into OUTPUT_DIR/wandb."""

    module = package = "wandb"

    def _start(self, cfg: CfgNode, name: str) -> None:
        self._run = self._api.init(dir=cfg.OUTPUT_DIR, name=name, config=dict(flat_items(cfg)))

    def _send(self, scalars: Mapping[str, float], iteration: int) -> None:
        self._run.log(dict(scalars), step=iteration)

    def _end(self) -> None:
        self._run.finish()


class MlflowWriter(_Tracker):
    """Send scalars to MLflow, which without a server writes into the current folder."""

    module, package = "mlflow", "mlflow-skinny"

    def _start(self, cfg: CfgNode, name: str) -> None:
        goes_on = "MLFLOW_RUN_ID" in os.environ  # whose parameters are there already
        self._run_id = self._api.start_run(run_name=name).info.run_id
        self._client = self._api.MlflowClient()
        kind = self._api.entities.Param
        params = [] if goes_on else [kind(key, str(x)[:500]) for key, x in flat_items(cfg)]
        for i in range(0, len(params), 100):  # as many as a request may have
            self._client.log_batch(self._run_id, params=params[i : i + 100])

    def _send(self, scalars: Mapping[str, float], iteration: int) -> None:
        now, kind = int(1000 * time.time()), self._api.entities.Metric
        metrics = [kind(_allowed(name), value, now, iteration) for name, value in scalars.items()]
        for i in range(0, len(metrics), 1000):
            self._client.log_batch(self._run_id, metrics=metrics[i : i + 1000])

    def _end(self) -> None:
        self._api.end_run()


TRACKERS: dict[str, Callable[[CfgNode], EventWriter]] = {
    "mlflow": MlflowWriter,
    "wandb": WandbWriter,
}


def build_trackers(cfg: CfgNode) -> list[EventWriter]:
    """Return the writers that TRAINING.TRACKERS names, started.

    Raises:
        UserError: an unknown name; says which there are.
        MissingPackageError: the package of one is not installed.
    """
    unknown = [name for name in cfg.TRAINING.TRACKERS if name not in TRACKERS]
    if unknown:
        raise UserError(
            f"TRAINING.TRACKERS: expected any of {', '.join(TRACKERS)}, got {unknown[0]!r}"
        )
    return [TRACKERS[name](cfg) for name in cfg.TRAINING.TRACKERS]


def _allowed(name: str) -> str:
    """Return a name of a scalar without the letters that MLflow refuses, in class names."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)
