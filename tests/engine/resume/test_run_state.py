"""Resumed trainings are the straight ones, to the last digit; where they are not, they say why."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.resume.runs import FIRST, ROOT, STEPS, train

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]  # a minute together; CI runs them


@pytest.fixture(scope="module")
def stopped(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a run that was stopped after FIRST iterations, and its trainer."""
    folder = tmp_path_factory.mktemp("stopped")
    return folder, train(folder, stops_in=FIRST - 1)


@pytest.fixture(scope="module")
def straight(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(tmp_path_factory.mktemp("straight"))


def copy_of(folder: Path, target: Path) -> dict[str, Any]:
    """Copy the last checkpoint, and return its content."""
    content = torch.load(folder / f"model_{FIRST - 1:07d}.pth")
    torch.save(content, target / "model.pth")
    (target / "last_checkpoint").write_text("model.pth")
    return content


def test_in_one_process_with_workers(
    stopped: tuple[Path, Any], straight: Any, tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    folder, first = stopped
    copy_of(folder, tmp_path)
    second = train(tmp_path, resume=True)
    assert "Resumed after iteration 6 and 28 images, exactly where the run was" in messages.text
    assert len(straight.losses) == STEPS and len(set(straight.losses)) == STEPS
    assert first.losses + second.losses == straight.losses
    assert first.images + second.images == straight.images
    ours, theirs = second.model.state_dict(), straight.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_workers_do_not_change_a_run(straight: Any, tmp_path: Path) -> None:
    alone = train(tmp_path, stops_in=2, DATALOADER__NUM_WORKERS=0)
    assert alone.losses == straight.losses[:3]


def test_workers_end_with_the_training(shapes: Path, tmp_path: Path) -> None:
    before = torch.multiprocessing.active_children()
    trainer = train(tmp_path, stops_in=1)
    assert trainer.data_loader is not None  # which is there, and no worker of it
    assert set(torch.multiprocessing.active_children()) <= set(before)


def test_in_two_processes_with_workers(shapes: Path, tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = str(ROOT / "tests/engine/resume/runs.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *launcher, script, str(shapes), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    seen = []
    for rank in (0, 1):
        report = json.loads((tmp_path / f"process{rank}.json").read_text())
        assert report["parts"] == report["straight"]
        losses, images = report["straight"]
        assert len(set(losses)) == STEPS
        seen.append(images)
    assert seen[0] != seen[1]


def test_another_batch_goes_on_at_the_right_image(
    stopped: tuple[Path, Any], straight: Any, tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    folder, _ = stopped
    copy_of(folder, tmp_path)
    second = train(tmp_path, resume=True, stops_in=8, SOLVER__IMS_PER_BATCH=2)
    assert "28 images, not bit for bit: SOLVER.IMS_PER_BATCH 4 has become 2" in messages.text
    assert second.images == straight.images[28:32]


def test_a_checkpoint_of_before_starts_an_order_that_lasts(
    stopped: tuple[Path, Any], tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    folder, _ = stopped
    content = copy_of(folder, tmp_path)
    del content["trainer"]["run"]
    torch.save(content, tmp_path / "model.pth")
    second = train(tmp_path, resume=True, stops_in=FIRST)
    assert "has no seed of the order of the data, which starts anew" in messages.text
    assert "has no states of the random generators" in messages.text
    saved = torch.load(tmp_path / f"model_{FIRST:07d}.pth")["trainer"]["run"]
    assert saved["seed"] is not None and saved["images"] == 32
    third = train(tmp_path, resume=True, stops_in=FIRST + 2)
    assert third.images and "and 32 images, exactly where the run was" in messages.text
    assert not set(second.images) & set(third.images[:4])  # one pass over the data has ten


def test_a_checkpoint_of_before_with_a_seed_goes_on_in_its_order(
    stopped: tuple[Path, Any], straight: Any, tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    folder, _ = stopped
    content = copy_of(folder, tmp_path)
    run = content["trainer"].pop("run")
    content["trainer"]["sampler_seed"] = run["seed"]
    torch.save(content, tmp_path / "model.pth")
    second = train(tmp_path, resume=True, stops_in=FIRST)
    assert "not bit for bit: the checkpoint does not say which images wait" in messages.text
    assert second.images == straight.images[28:32]
