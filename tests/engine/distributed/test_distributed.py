"""Runs in two CPU processes under torchrun against one process; start-up errors."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils.env import seed_all_rng

from mask2former.engine.distributed import is_under_torchrun, launch, wrap_model
from mask2former.engine.replay.command import main as replay
from tests.engine.distributed.two_processes import images, tiny_model
from tests.engine.stub import SIZE, StubTrainer, make_cfg

pytestmark = pytest.mark.timeout(300)  # two more processes start, and load all the libraries

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = ["SEED", "3", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "0"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two processes have left their results."""
    folder = tmp_path_factory.mktemp("two")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = str(ROOT / "tests/engine/distributed/two_processes.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *launcher, script, str(folder), *SETTINGS],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> StubTrainer:
    """The same training in one process, without a stop."""
    seed_all_rng(3)
    trainer = StubTrainer(make_cfg(tmp_path_factory.mktemp("one"), *SETTINGS))
    trainer.train()
    return trainer


def reports(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"process{rank}.json").read_text()) for rank in (0, 1)]


def test_a_signal_to_one_process_stops_both(two: Path) -> None:
    for report in reports(two):
        assert report["code"] == 143
        assert report["saved"] == ["model_0000002.pth", "model_0000004.pth"]


def test_processes_know_their_place_on_the_machine(two: Path) -> None:
    assert [report["local"] for report in reports(two)] == [[0, 2], [1, 2]]


def test_resumed_processes_share_the_data_as_one_would_have_gone_on(
    two: Path, one: StubTrainer
) -> None:
    first, second = reports(two)
    assert first["start"] == second["start"] == 5
    expected = one.model.seen[5 * 4 :]
    assert first["seen"] == expected[0::2] and second["seen"] == expected[1::2]


def test_two_processes_learn_as_one(two: Path, one: StubTrainer) -> None:
    weights = torch.load(two / "model_final.pth")["model"]
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)


def test_evaluation_gathers_all_data(two: Path, one: StubTrainer) -> None:
    written = json.loads((two / "inference" / "results.json").read_text())["results"]["fit"]
    assert written["n"] == SIZE
    assert written["error"] == pytest.approx(one._last_eval_results["fit"]["error"], rel=1e-4)


def test_seeded_mask_losses_do_not_depend_on_the_processes(two: Path) -> None:
    found = json.loads((two / "losses.json").read_text())
    expected = tiny_model()(images())
    assert found.keys() == expected.keys() and len(found) == 9
    for name, loss in expected.items():
        if not name.startswith("loss_ce"):  # as published, a mean over each process's own images
            assert found[name] == pytest.approx(loss.item(), rel=1e-4), name


def test_parts_of_two_processes_add_up_to_their_batch(two: Path) -> None:
    whole, added = torch.load(two / "parts1.pth"), torch.load(two / "parts2.pth")
    assert any(gradient.abs().max() > 1e-3 for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(added[name], gradient, rtol=1e-3, atol=1e-5)


def test_all_parts_of_an_evaluation_see_the_statistics_that_checkpoints_have(two: Path) -> None:
    first, second = (json.loads((two / f"statistics{i}.json").read_text()) for i in (0, 1))
    assert first["trained"] == pytest.approx(1.5) and second["trained"] == pytest.approx(3)
    assert first["seen"] == second["seen"] == pytest.approx({"fit": 1.5, "fit_EMA": 1.5})


def test_all_processes_wait_until_the_failed_step_of_one_is_kept(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        message, kept = json.loads((two / f"failure{rank}.json").read_text())
        assert kept, rank
        assert "loss_ce is inf in process 1" in message and "in process 0" not in message
        assert f"engine.replay {two / 'failing' / 'failure'} names" in message
    replay([str(two / "failing")])
    text = capsys.readouterr().out
    assert text.startswith("iteration 4, process 1: the loss is not finite at iteration 4")
    assert "all tensors are finite here" in text  # the model is sound


def arguments(**changes: Any) -> argparse.Namespace:
    defaults = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    return argparse.Namespace(**{**defaults, **changes})


def test_one_process_calls_main_here() -> None:
    args = arguments(num_gpus=0)
    assert launch(lambda given: (given, os.getpid()), args) == (args, os.getpid())


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"num_gpus": 2}, r"torchrun --nproc_per_node 2 train_net\.py"),
        (
            {"num_gpus": 4, "num_machines": 2},
            r"torchrun --nnodes 2 --node-rank RANK --master-addr HOST --nproc_per_node 4",
        ),
    ],
)
def test_gpus_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], advice: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=advice):
        launch(pytest.fail, arguments(**changes))


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match="--num-gpus is 3, but this machine has 2"):
        launch(pytest.fail, arguments(num_gpus=3))


@pytest.mark.parametrize(("size", "expected"), [("1", False), ("2", True)])
def test_tells_torchrun_by_its_variables(
    monkeypatch: pytest.MonkeyPatch, size: str, expected: bool
) -> None:
    assert not is_under_torchrun()
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": size}.items():
        monkeypatch.setenv(name, value)
    assert is_under_torchrun() == expected


def test_one_process_needs_no_wrapper() -> None:
    model = torch.nn.Linear(1, 1)
    assert wrap_model(model) is model
