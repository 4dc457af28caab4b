"""Trackers against stand-ins, and against the packages themselves, offline, where installed."""

import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.utils.events import EventStorage

from mask2former.engine.watching.trackers import MlflowWriter, WandbWriter, build_trackers
from mask2former.errors import MissingPackageError, UserError
from mask2former.formats.json_files import read_json
from tests.engine.stub import SignalledTrainer, StubTrainer, make_cfg


class Wandb:
    """Remembers what it is sent."""

    id = "run-of-now"

    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **options: Any) -> "Wandb":
        self.options = options
        return self

    def log(self, scalars: dict[str, float], step: int) -> None:
        self.sent.append((step, scalars))

    def finish(self) -> None:
        self.finished += 1


def test_each_value_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    cfg = make_cfg(tmp_path / "run", "SEED", 4)
    (writer,) = build_trackers(_with(cfg, "wandb"))
    with EventStorage(0) as storage:
        storage.put_scalars(loss=1.0, bad=float("nan"), smoothing_hint=False)
        writer.write()
        writer.write()
        storage.iter = 4
        storage.put_scalar("loss", 3.0, smoothing_hint=False)
        storage.iter = 2
        storage.put_scalar("score", 5.0)
        writer.write()
        writer.close()
        writer.write()
    assert wandb.sent == [(0, {"loss": 1.0}), (2, {"score": 5.0}), (4, {"loss": 3.0})]
    assert wandb.options["config"]["SEED"] == 4 and wandb.options["name"] == "run"
    assert wandb.finished == 1


def test_a_training_reports_to_a_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    StubTrainer(_with(make_cfg(tmp_path), "wandb")).train()
    losses = [step for step, scalars in wandb.sent if "total_loss" in scalars]
    assert losses == [1, 3, 5, 7, 9]
    assert any("fit/error" in scalars for _, scalars in wandb.sent)


def test_a_training_that_goes_on_stays_in_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    started = []

    def part(resume: bool, run_id: str, lost: bool = False) -> None:
        class Tracker(Wandb):
            id = run_id

            def init(self, **options: Any) -> Wandb:
                started.append(options.get("id"))
                if lost and "id" in options:
                    raise ConnectionError("no such run")
                return super().init(**options)

        monkeypatch.setitem(sys.modules, "wandb", Tracker())
        monkeypatch.setattr(SignalledTrainer, "at_iter", 99 if resume else 4)
        trainer = SignalledTrainer(_with(make_cfg(tmp_path), "wandb"))
        trainer.resume_or_load(resume=resume)
        with nullcontext() if resume else pytest.raises(SystemExit):
            trainer.train()

    part(False, "a")
    (tmp_path / "middle").write_text((tmp_path / "last_checkpoint").read_text())
    part(True, "a")
    assert started == [None, "a"]
    (tmp_path / "middle").replace(tmp_path / "last_checkpoint")
    part(True, "b", lost=True)
    assert started == [None, "a", "a", None]
    assert "wandb does not go on in run a: no such run" in messages.text
    (tmp_path / "trackers.json").write_text('["a"]')  # no record of ours
    part(False, "c")  # from the beginning
    assert started[-1] is None and read_json(tmp_path / "trackers.json") == {"wandb": "c"}


def test_a_tracker_that_fails_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=fail))
    assert StubTrainer(_with(make_cfg(tmp_path), "wandb")).train()["fit"]["n"] == 12
    assert messages.text.count("wandb gets nothing any more: no route to host") == 1


def test_errors_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected any of mlflow, wandb, got 'tensorboard'"):
        build_trackers(_with(make_cfg(tmp_path), "tensorboard"))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingPackageError, match="pip install mlflow-skinny"):
        StubTrainer(_with(make_cfg(tmp_path), "mlflow"))


@pytest.mark.slow
def test_packages_are_not_imported_unasked() -> None:
    code = "import sys, mask2former.engine; print({'wandb', 'mlflow'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.stdout.split() == [b"set()"]


def test_mlflow_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed (pip install mlflow-skinny)")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    cfg = make_cfg(tmp_path / "run", "SEED", 4)
    writer = MlflowWriter(cfg)
    with EventStorage(7) as storage:
        storage.put_scalars(loss=1.5, **{"segm/AP-it's": 2.0})
        writer.write()
        writer.close()
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    assert run.data.metrics == {"loss": 1.5, "segm/AP-it_s": 2.0}
    assert run.data.params["SEED"] == "4" and run.info.status == "FINISHED"
    (loss,) = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert loss.step == 7


def test_mlflow_goes_on_in_its_run_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed (pip install mlflow-skinny)")
    if importlib.util.find_spec("sqlalchemy") is not None:
        pytest.skip("MLflow has its database, with sqlalchemy installed")
    import mlflow

    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    cfg = make_cfg(tmp_path / "run")
    for goes_on, iteration in ((False, 3), (True, 7)):
        writer = MlflowWriter(cfg, lambda goes_on=goes_on: goes_on)
        with EventStorage(iteration) as storage:
            storage.put_scalar("loss", 1.5)
            writer.write()
            writer.close()
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [loss.step for loss in history] == [3, 7] and run.info.status == "FINISHED"
    assert (tmp_path / "mlruns").is_dir() and run.info.run_name == "run"


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed (pip install wandb)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    writer = WandbWriter(make_cfg(tmp_path))
    with EventStorage(7) as storage:
        storage.put_scalar("loss", 1.5)
        writer.write()
        writer.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"IMS_PER_BATCH" in file.read_bytes() and b"loss" in file.read_bytes()


def _with(cfg: Any, *names: str) -> Any:
    cfg.TRAINING.TRACKERS = list(names)
    return cfg
