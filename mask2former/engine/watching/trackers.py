"""Writers that send the scalars of a training to W&B or MLflow.

Their packages are imported where TRAINING.TRACKERS names them, and nowhere else. Where they send to
is set as for all that use them: by their environment variables (WANDB_MODE, WANDB_PROJECT;
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME) and files. A training that goes on sends to the runs
that it began, whose ids are in OUTPUT_DIR/trackers.json.
"""

import importlib
import importlib.util
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from ...config.loading import flat_items
from ...errors import MissingPackageError, UserError
from ...formats.json_files import read_json, write_json

logger = logging.getLogger(__name__)

RECORD = "trackers.json"


class _Tracker(EventWriter):
    """What writers to trackers share: each value is sent once, as detectron2's JSONWriter does.

    A tracker that fails is left out from then on, with a warning: training goes on.

    Args:
        cfg: of the training; sent as its parameters with the first values.
        goes_on: tells, when the first values are sent, whether this is a later part of a training.
        window_size: number of latest iterations whose median is sent.

    Raises:
        MissingPackageError: the package is not installed.
    """

    module: str
    package: str
    variable: str  # of the environment: the run to send to, before what this training has noted

    def __init__(
        self, cfg: CfgNode, goes_on: Callable[[], bool] = lambda: False, window_size: int = 20
    ) -> None:
        self._cfg = cfg
        self._goes_on = goes_on
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
            self._start_or_go_on()
            self._state = "started"
        for iteration in sorted(by_iteration):
            self._send(by_iteration[iteration], iteration)

    def _start_or_go_on(self) -> None:
        record, ids = Path(self._cfg.OUTPUT_DIR, RECORD), {}
        with suppress(OSError, UserError):  # there is none, or a damaged one
            found = read_json(record)
            ids = found if isinstance(found, dict) else {}
        is_asked = self._goes_on() and self.variable not in os.environ
        before = ids.get(self.module) if is_asked else None
        try:
            ids[self.module] = self._start(before)
        except Exception as error:
            if before is None:
                raise
            logger.warning("%s does not go on in run %s: %s", self.module, before, error)
            ids[self.module] = self._start(None)
        write_json(record, ids)

    @property
    def _name(self) -> str:
        return Path(self._cfg.OUTPUT_DIR).resolve().name

    def _try(self, action: Callable[[], None]) -> None:
        if self._state == "ended":
            return
        try:
            action()
        except Exception as error:  # of any kind, by the package and by its network
            self._state = "ended"
            logger.warning("%s gets nothing any more: %s", self.module, error)

    def _start(self, before: str | None) -> str:
        """Start a run, or go on in that with this id; return its id."""
        raise NotImplementedError

    def _send(self, scalars: Mapping[str, float], iteration: int) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class WandbWriter(_Tracker):
    """Send scalars to Weights & Biases, or with WANDB_MODE=offline into OUTPUT_DIR/wandb."""

    module = package = "wandb"
    variable = "WANDB_RUN_ID"

    def _start(self, before: str | None) -> str:
        config = dict(flat_items(self._cfg))
        again = {"id": before, "resume": "allow"} if before else {}
        self._run = self._api.init(
            dir=self._cfg.OUTPUT_DIR, name=self._name, config=config, **again
        )
        return self._run.id

    def _send(self, scalars: Mapping[str, float], iteration: int) -> None:
        self._run.log(dict(scalars), step=iteration)

    def _end(self) -> None:
        self._run.finish()


class MlflowWriter(_Tracker):
    """Send scalars to MLflow, which without a server writes into the current folder."""

    module, package = "mlflow", "mlflow-skinny"
    variable = "MLFLOW_RUN_ID"

    def _start(self, before: str | None) -> str:
        goes_on = before is not None or self.variable in os.environ  # parameters are there already
        # MLflow 3 wants a database for runs of this machine, which mlflow-skinny does without.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        has_databases = importlib.util.find_spec("sqlalchemy") is not None
        if not self._api.is_tracking_uri_set() and not has_databases:
            self._api.set_tracking_uri(Path("mlruns").resolve().as_uri())
        started = self._api.start_run(run_id=before, run_name=self._name)
        self._run_id: str = started.info.run_id
        self._client = self._api.MlflowClient()
        kind, values = self._api.entities.Param, flat_items(self._cfg)
        params = [] if goes_on else [kind(key, str(value)[:500]) for key, value in values]
        for i in range(0, len(params), 100):  # as many as a request may have
            self._client.log_batch(self._run_id, params=params[i : i + 100])
        return self._run_id

    def _send(self, scalars: Mapping[str, float], iteration: int) -> None:
        now, kind = int(1000 * time.time()), self._api.entities.Metric
        metrics = [kind(_allowed(name), value, now, iteration) for name, value in scalars.items()]
        for i in range(0, len(metrics), 1000):
            self._client.log_batch(self._run_id, metrics=metrics[i : i + 1000])

    def _end(self) -> None:
        self._api.end_run()


TRACKERS: dict[str, Callable[[CfgNode, Callable[[], bool]], EventWriter]] = {
    "mlflow": MlflowWriter,
    "wandb": WandbWriter,
}


def build_trackers(cfg: CfgNode, goes_on: Callable[[], bool] = lambda: False) -> list[EventWriter]:
    """Return the writers that TRAINING.TRACKERS names, which start with the first values.

    Args:
        goes_on: tells then whether this is a later part of a training.

    Raises:
        UserError: an unknown name; says which there are.
        MissingPackageError: the package of one is not installed.
    """
    names = list(dict.fromkeys(map(str, cfg.TRAINING.TRACKERS)))
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise UserError(
            f"TRAINING.TRACKERS: expected any of {', '.join(TRACKERS)}, got {unknown[0]!r}"
        )
    return [TRACKERS[name](cfg, goes_on) for name in names]


def _allowed(name: str) -> str:
    """Return a name of a scalar without the letters that MLflow refuses, in class names."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)
