"""Everything that a report shows of a run, read from its OUTPUT_DIR."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...config.loading import flat_items
from ...config.yaml_reader import read_yaml
from ...errors import UserError
from ...formats.json_files import read_json
from ..accumulation import scaled_iterations
from .curves import MAX_ITERATION, Curve, metric_curves, read_curves
from .facts import RUN_FILE, default_changes
from .pictures import TRAINING_FOLDER

_DETAILS = "_details.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, as far as it went.

    Attributes:
        folder: its OUTPUT_DIR.
        curves: of all scalars, by name.
        config: by dotted key; empty where there is no config.yaml.
        facts: what `run_facts` noted at its start; empty for runs of before.
        results: of the last evaluation, by dataset (where there are several), task and metric.
        details: what evaluators wrote beside the scores, by dataset and task likewise.
        training_pictures: files.
        is_finished: whether the last checkpoint is that of the end.
    """

    folder: Path
    curves: Mapping[str, Curve]
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    results: Mapping[str, float | None]
    details: Mapping[str, Mapping[str, Any]]
    training_pictures: tuple[Path, ...]
    is_finished: bool = False

    @property
    def name(self) -> str:
        """Return the name of the folder."""
        return self.folder.resolve().name

    @property
    def done(self) -> int:
        """Return the number of iterations that are known to be done."""
        curve = self.curves.get("total_loss")
        return int(curve.iterations[-1]) + 1 if curve else 0

    @property
    def planned(self) -> int | None:
        """Return SOLVER.MAX_ITER, scaled as training does it for SOLVER.REFERENCE_BATCH.

        None where the config has no such number.
        """
        keys = ("MAX_ITER", "IMS_PER_BATCH", "REFERENCE_BATCH")
        planned, batch, reference = (self.config.get(f"SOLVER.{key}") for key in keys)
        if not isinstance(planned, int):
            return None
        is_scaled = all(isinstance(number, int) and number > 0 for number in (batch, reference))
        return scaled_iterations(planned, batch / reference) if is_scaled else planned

    @property
    def state(self) -> str:
        """Return how far the run is, in words."""
        if not self.curves:
            return "evaluated without a training"
        if self.planned is None:
            return f"{self.done} iterations"
        if self.done >= self.planned or self.is_finished:
            early = f" of {self.planned}" if self.done < self.planned else ""
            return f"finished: {self.done}{early} iterations"
        return f"running or interrupted: {self.done} of {self.planned} iterations"

    def metrics(self) -> dict[str, dict[str, Curve]]:
        """Return `metric_curves`, with the evaluation at the end at the last iteration.

        detectron2 writes it one later, since training is over then.
        """
        last = (self.planned or MAX_ITERATION) - 1
        return {
            task: {
                metric: Curve(np.minimum(curve.iterations, last), curve.values)
                for metric, curve in curves.items()
            }
            for task, curves in metric_curves(self.curves).items()
        }

    def changes(self) -> list[tuple[str, Any, Any]]:
        """Return (key, value in the base, value here) where the config differs from its base."""
        if "changes" in self.facts:
            return [tuple(row) for row in self.facts["changes"]]
        return default_changes(self.config) if self.config else []


def read_run(folder: Path) -> Run:
    """Read a run.

    Raises:
        FileNotFoundError: there is no such folder, or nothing of a run in it.
        UserError: a file in it is damaged; names it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected the OUTPUT_DIR of a training")
    curves = read_curves(folder / "metrics.json")
    results = _results(folder)
    if not curves and not results:
        started = (folder / "config.yaml").is_file()
        why = (
            "has no measurements yet: the first come after SOLVER.LOG_PERIOD iterations; try later"
            if started
            else "holds no training: expected metrics.json in it, as train_net.py writes it into "
            "OUTPUT_DIR"
        )
        raise FileNotFoundError(f"{folder} {why}")
    config = folder / "config.yaml"
    return Run(
        folder,
        curves,
        dict(flat_items(read_yaml(config))) if config.is_file() else {},
        _mapping(folder / RUN_FILE),
        results,
        dict(_details(folder / "inference")),
        tuple(sorted((folder / TRAINING_FOLDER).glob("training_*.jpg"))),
        _last_checkpoint(folder) == "model_final.pth",
    )


def _last_checkpoint(folder: Path) -> str:
    path = folder / "last_checkpoint"
    return path.read_text(errors="replace").strip() if path.is_file() else ""


def _results(folder: Path) -> dict[str, float | None]:
    """Return the scores of the last evaluation, named as in metrics.json: task/metric."""
    for name in ("results.json", "scores.json"):
        content = _mapping(folder / "inference" / name).get("results")
        if isinstance(content, Mapping):
            return dict(_scores(content))
    return {}


def _scores(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _scores(item, f"{prefix}{key}/")
        elif item is None or isinstance(item, int | float):
            yield f"{prefix}{key}", item


def _details(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in sorted(folder.glob(f"**/*{_DETAILS}")):
        task = path.name.removesuffix(_DETAILS)
        yield (path.parent.relative_to(folder) / task).as_posix(), _mapping(path)


def _mapping(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a json object, got a {type(content).__name__}")
    return content
