"""The job on Ray: results equal to those of one process, also when an actor is killed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mask2former.predict.job import run_job
from mask2former.predict.ray_job import run_on_ray
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.tiny import contents, leftovers, settings, write_photos

ray = pytest.importorskip("ray", reason="Ray is not installed")
psutil = pytest.importorskip("psutil")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def kill_one_actor(output: Path, killed: list[int]) -> None:
    """Kill an actor of this process's cluster once a shard is done."""
    while not any((output / "job" / "shards").glob("0*")):
        time.sleep(0.02)
    while not killed:
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("ray::") and "MapBatches" in process.name():
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_results_are_those_of_one_process_though_an_actor_is_killed(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 60)
    wanted = ("instances", "panoptic", "parquet")
    run_job(settings(tmp_path / "expected", outputs=wanted), photos)
    made, killed = settings(tmp_path / "out", outputs=wanted), []
    arguments = (made.output, killed)
    threading.Thread(target=kill_one_actor, args=arguments, daemon=True).start()
    outcome = run_on_ray(made, photos, actors=2)
    assert killed
    assert (outcome.items, outcome.errors) == (60, 0)
    assert contents(made.output) == contents(tmp_path / "expected")
    assert leftovers(made.output) == []
