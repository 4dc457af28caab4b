"""Workers that share a job: on one machine, on several, and when one of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mask2former.predict.job import leases, run_job, worker
from mask2former.predict.job.leases import Leases
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.kills import Changes, run_forked
from tests.predict.job.tiny import (
    PANOPTIC,
    WORDS,
    contents,
    leftovers,
    settings,
    write_photos,
)

ROOT = Path(__file__).resolve().parents[3]


def test_a_lease_is_of_one_worker(tmp_path: Path) -> None:
    mine, other = Leases(tmp_path, 60), Leases(tmp_path, 60)
    assert mine.take("a") and mine.is_mine("a")
    assert not other.take("a") and not other.is_mine("a")
    mine.release("a")
    assert other.take("a") and not mine.is_mine("a")
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_leases_of_the_dead_are_taken_over_at_once(tmp_path: Path) -> None:
    status, _ = run_forked(lambda: Leases(tmp_path, 60).take("a"), Changes())
    assert status == 0
    mine = Leases(tmp_path, 60)
    assert mine.take("a") and mine.is_mine("a")


@pytest.mark.parametrize("content", [None, b""])
def test_leases_of_other_machines_expire(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_machine", lambda: "elsewhere")
    other = Leases(tmp_path, 0.4)
    assert other.take("a")
    if content is not None:  # killed before it was written
        (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(leases, "_machine", lambda: "here")
    mine = Leases(tmp_path, 0.4)
    if content is None:
        other.keep_alive()
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            assert not mine.take("a")
            time.sleep(0.05)
        other._ended.set()  # the worker is gone, without a word
        other._thread.join()
    start = time.monotonic()
    assert not mine.take("a")
    while not mine.take("a"):
        time.sleep(0.05)
    assert 0.3 < time.monotonic() - start < 5
    assert not other.is_mine("a")


@pytest.mark.parametrize("same_machine", [True, False])
def test_one_of_two_workers_is_killed(
    same_machine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = worker.build_predictor(settings(tmp_path))
    monkeypatch.setattr(worker, "build_predictor", lambda settings: predictor)
    photos = write_photos(tmp_path / "photos", 14)
    run_job(settings(tmp_path / "expected"), photos)
    made = settings(tmp_path / "out", lease_seconds=1)

    def work_elsewhere() -> None:
        if not same_machine:
            leases._machine = lambda: "elsewhere"
        run_job(made, photos, place=0.5)

    beside = os.fork()
    if not beside:
        status = 1
        try:
            run_job(made, photos)
            status = 0
        finally:
            os._exit(status)
    status, _ = run_forked(work_elsewhere, Changes(40))
    _, ended = os.waitpid(beside, 0)
    assert status == -signal.SIGKILL and ended == 0
    assert contents(made.output) == contents(tmp_path / "expected")
    assert leftovers(made.output) == []


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
def test_launchers(launcher: str, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 20)
    run_job(settings(tmp_path / "expected"), [str(tmp_path / "photos")])
    given = [str(tmp_path / "photos"), "--output", str(tmp_path / "out")]
    given += ["--config-file", str(PANOPTIC), "--confidence-threshold", "0", "--shard-size", "3"]
    command = ["-m", "mask2former.predict", *given, "--batch", "2", "--opts", *WORDS]
    if launcher == "torchrun":
        starts = [["-m", "torch.distributed.run", "--nproc-per-node", "2", *command]]
        environments = [{}]
    else:
        starts = [command, command]
        environments = [
            {"SLURM_ARRAY_TASK_ID": str(i), "SLURM_ARRAY_TASK_COUNT": "2"} for i in range(2)
        ]
    running = [
        subprocess.Popen([sys.executable, *start], cwd=ROOT, env=os.environ | more)
        for start, more in zip(starts, environments)
    ]
    assert [process.wait() for process in running] == [0] * len(running)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
