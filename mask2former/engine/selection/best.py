"""The best weights of a run by one metric, and the end of a run that no longer gets better."""

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...checkpoints.checkpointer import Checkpointer
from ...checkpoints.storage.weights_io import save_torch
from ...errors import UserError
from ...evaluation.metric_names import unknown_metric
from ...formats.json_files import (
    read_json,
    require_keys,
    require_list,
    require_number,
    write_json,
)

logger = logging.getLogger(__name__)

MODES = ("max", "min")
FILE_NAME, RECORD_NAME = "model_best.pth", "best.json"


class StoppedEarly(Exception):
    """The metric has not got better for as long as TEST.BEST.PATIENCE allows."""


class BestWeights:
    """Keep the weights that score best in ``model_best.pth``, and all scores in ``best.json``.

    The former has the weights alone, without the state of the training.

    Args:
        checkpointer: of the run; its folder and classes are used.
        metric: "task/metric", with several test sets "dataset/task/metric".
        mode: "max" or "min", which is better.
        patience: evaluations in a row without a better score that end the run; 0 for never.

    Raises:
        UserError: an unknown mode or a negative patience.
    """

    def __init__(
        self, checkpointer: Checkpointer, metric: str, mode: str = "max", patience: int = 0
    ) -> None:
        if mode not in MODES or patience < 0:
            raise UserError(
                f'TEST.BEST: MODE must be "max" or "min" and PATIENCE at least 0, not {mode!r} and '
                f"{patience}"
            )
        self.metric = metric
        self.mode = mode
        self.patience = patience
        self._checkpointer = checkpointer
        self._folder = checkpointer.save_dir
        self._scores: list[dict[str, Any]] = []
        self._kept: dict[str, Any] | None = None  # the score of the weights in the file

    @classmethod
    def of_config(cls, cfg: CfgNode, checkpointer: Checkpointer) -> "BestWeights | None":
        """Return what TEST.BEST asks for, or None where its METRIC is empty.

        Raises:
            UserError: PATIENCE without TEST.EVAL_PERIOD; else as the class.
        """
        best = cfg.TEST.BEST
        if not best.METRIC:
            return None
        if best.PATIENCE and cfg.TEST.EVAL_PERIOD <= 0:
            raise UserError(
                f"TEST.BEST.PATIENCE is {best.PATIENCE}, but TEST.EVAL_PERIOD is "
                f"{cfg.TEST.EVAL_PERIOD}: set after how many iterations to evaluate"
            )
        return cls(checkpointer, best.METRIC, best.MODE, best.PATIENCE)

    def go_on(self, iteration: int) -> None:
        """Take up the scores of an earlier part of the run, those before ``iteration``.

        The weights that are kept stay the best so far, also where they are of a later iteration,
        which the run has been put back behind.

        Raises:
            UserError: ``best.json`` is damaged; in every process.
        """
        path = os.path.join(self._folder, RECORD_NAME)
        record: dict[str, Any] = {}
        if iteration and comm.is_main_process() and os.path.isfile(path):
            try:
                record = _read_record(path) | {"has_file": os.path.isfile(self._file)}
            except UserError as error:  # which the other processes must hear of, too
                record = {"problem": f"{error}; delete it to go on without the scores so far"}
        record = comm.all_gather(record)[0]
        if "problem" in record:
            raise UserError(record["problem"])
        if (record.get("metric"), record.get("mode")) != (self.metric, self.mode):
            return
        self._scores = [s for s in record["scores"] if s["iteration"] < iteration]
        self._kept = record["best"] if record["has_file"] else None

    def knows(self, iteration: int) -> bool:
        """Tell whether there is a score of an iteration."""
        return any(score["iteration"] == iteration for score in self._scores)

    def check(self) -> None:
        """Raise `StoppedEarly` if there was no better score for as long as ``patience`` allows."""
        best = self._best()
        if not self.patience or best is None:
            return
        if len(self._scores) - 1 - best >= self.patience:
            score = self._scores[best]
            raise StoppedEarly(
                f"{self.metric} was best at iteration {score['iteration']}, {score['value']:.4f}, "
                f"and not better in the {len(self._scores) - 1 - best} evaluations since "
                f"(TEST.BEST.PATIENCE {self.patience})"
            )

    def update(self, results: Mapping[str, Any], model: nn.Module, iteration: int) -> None:
        """Take the results of an evaluation, and keep the weights if they are the best so far.

        Args:
            results: {task: {metric: value}}; empty but in the first process.
            model: the one that was evaluated; every process has to call this.
            iteration: the last one that was trained.

        Raises:
            StoppedEarly: see `check`.
            UserError: there is no such metric; names those that there are.
        """
        values = flatten_results_dict(results) if comm.is_main_process() else {}
        values = comm.all_gather({k: float(v) for k, v in values.items()})[0]
        if self.metric not in values:
            raise unknown_metric("TEST.BEST.METRIC", self.metric, values)
        before = [score for score in self._scores if score["iteration"] < iteration]
        score = {"iteration": iteration, "value": values[self.metric]}
        self._scores = [*before, score]
        if self._is_better(score):
            self._kept = score
            self._save(model)
        if self._kept is not None:
            get_event_storage().put_scalar(
                f"best/{self.metric}", self._kept["value"], smoothing_hint=False
            )
        if comm.is_main_process():
            self._write()
        self.check()

    def _is_better(self, score: Mapping[str, Any]) -> bool:
        """Tell whether a score is better than that of the weights that are kept."""
        if not math.isfinite(score["value"]):
            return False
        return self._kept is None or self._merit(score) > self._merit(self._kept)

    def _merit(self, score: Mapping[str, Any]) -> float:
        return score["value"] if self.mode == "max" else -score["value"]

    def _best(self) -> int | None:
        """Return which score is the best, the first of equal ones; None where all are NaN."""
        finite = [i for i, s in enumerate(self._scores) if math.isfinite(s["value"])]
        return max(finite, key=lambda i: self._merit(self._scores[i]), default=None)

    @property
    def _file(self) -> str:
        return os.path.join(self._folder, FILE_NAME)

    def _save(self, model: nn.Module) -> None:
        if not comm.is_main_process():
            return
        score, classes = self._scores[-1], self._checkpointer.classes
        inner = model.module if isinstance(model, DistributedDataParallel) else model
        content = {"model": inner.state_dict(), "best": {"metric": self.metric, **score}}
        content |= {} if classes is None else {"classes": classes.to_plain()}
        save_torch(content, self._file)
        logger.info("Best %s so far: %.4f, saved as %s", self.metric, score["value"], self._file)

    def _write(self) -> None:
        record = {
            "metric": self.metric,
            "mode": self.mode,
            "best": self._kept,
            "scores": self._scores,
        }
        write_json(os.path.join(self._folder, RECORD_NAME), record)


def _read_record(path: str) -> dict[str, Any]:
    """Return what `BestWeights` wrote, with NaN for values that are null.

    Raises:
        UserError: it is damaged.
    """
    record = read_json(path)
    try:
        require_keys(record, ("metric", "mode", "best", "scores"))
        require_list(record["scores"], "scores")
        best = None if record["best"] is None else _score(record["best"])
        return record | {"best": best, "scores": [_score(score) for score in record["scores"]]}
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _score(entry: Any) -> dict[str, Any]:
    require_keys(entry, ("iteration", "value"))
    require_number(entry["iteration"], "iteration")
    if entry["value"] is None:
        return {"iteration": int(entry["iteration"]), "value": math.nan}
    require_number(entry["value"], "value")
    return {"iteration": int(entry["iteration"]), "value": float(entry["value"])}
