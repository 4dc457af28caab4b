"""A job that is killed at any change of the disk has every result once when it goes on."""

import os
import signal
from pathlib import Path

import pytest

from mask2former.errors import UserError
from mask2former.predict.job import run_job, worker
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.kills import Changes, run_forked
from tests.predict.job.tiny import contents, leftovers, settings, write_photos

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Seven images, and a model that is built once, not in each run."""
    predictor = worker.build_predictor(settings(tmp_path))
    monkeypatch.setattr(worker, "build_predictor", lambda settings: predictor)
    return write_photos(tmp_path / "photos")


def moments(total: int, every: int) -> list[tuple[int, bool]]:
    return [(n, n // every % 2 == 0) for n in range(1, total + 1, every)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_change(every: int, photos: list[str], tmp_path: Path) -> None:
    made = settings(tmp_path / "expected")
    run_job(made, photos)
    expected = contents(tmp_path / "expected")
    made = settings(tmp_path / "counted")
    status, total = run_forked(lambda: run_job(made, photos), Changes())
    assert status == 0 and total > 100 and len(expected["instances.json"]) > len(photos)
    for n, behind in moments(total, every):
        output = tmp_path / f"killed_{n}"
        made = settings(output)
        status, _ = run_forked(lambda m=made: run_job(m, photos), Changes(n, behind))
        assert status == -signal.SIGKILL, f"not killed at change {n} of {total}"
        run_job(made, photos)
        assert contents(output) == expected, f"killed at change {n}"
        assert leftovers(output) == [], f"killed at change {n}"


@pytest.mark.slow
def test_killed_again_and_again(photos: list[str], tmp_path: Path) -> None:
    made = settings(tmp_path / "expected")
    run_job(made, photos)
    made = settings(tmp_path / "killed")
    kills, gap = 0, 11
    while run_forked(lambda: run_job(made, photos), Changes(gap, kills % 2 == 0))[0]:
        kills += 1
        gap += 3
    assert kills > 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "expected")
    assert leftovers(tmp_path / "killed") == []


def test_killed_while_an_earlier_job_is_deleted(photos: list[str], tmp_path: Path) -> None:
    run_job(settings(tmp_path / "expected"), photos[:2])
    expected = contents(tmp_path / "expected")
    for n in range(1, 40, 5):
        made = settings(tmp_path / f"killed_{n}")
        run_job(made, photos[2:])
        run_forked(lambda m=made: run_job(m, photos[:2], overwrite=True), Changes(n))
        try:
            run_job(made, photos[:2])
        except UserError:  # nothing had been deleted yet
            run_job(made, photos[:2], overwrite=True)
        assert contents(made.output) == expected
        assert leftovers(made.output) == []
