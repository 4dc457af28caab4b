"""`python -m mask2former.predict`: exit codes, messages, numbers of processes."""

import os
from pathlib import Path

import pytest

from mask2former.predict.command import main, parse_args, processes
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.tiny import PANOPTIC, WORDS, contents, write_photos


def run(output: Path, *inputs: object, more: tuple[str, ...] = ()) -> int:
    given = [*map(str, inputs), "--output", str(output), "--config-file", str(PANOPTIC)]
    return main([*given, "--workers", "1", *more, "--opts", *WORDS])


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    assert run(tmp_path / "out", *photos, more=("--save", "labels")) == 0
    printed = capsys.readouterr().out
    assert "labels.json" in printed and "2 of 2 inputs predicted" in printed
    assert {"labels/0.png", "labels/1.png"} <= contents(tmp_path / "out").keys()
    bad = tmp_path / "bad.png"
    bad.touch()
    assert run(tmp_path / "other", *photos, bad, more=("--save", "labels")) == 1
    assert "2 of 3 inputs predicted; the others are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--save", "parquet"), "--save parquet: this model gives panoptic, labels"),
        (("--draw", "instance"), "--draw instance: this model gives panoptic, labels"),
        (("--weights", "nowhere.pth"), "nowhere.pth"),
    ],
)
def test_what_a_user_can_put_right_is_said_in_a_line(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "photos", 1)
    words = ["MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"]
    with pytest.raises(SystemExit) as ended:
        given = [*photos, "--output", str(tmp_path / "out"), "--config-file", str(PANOPTIC)]
        main([*given, *more, "--opts", *WORDS, *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("predict: error: ") and message in error
    assert not (tmp_path / "out" / "job").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--batch", "0"), "--batch is 1 or more, got 0"),
        (("--confidence-threshold", "2"), "--confidence-threshold is in 0 to 1"),
        (("--readers", "-1"), "--readers is 0 or more"),
        (("--save", "pictures"), "invalid choice: 'pictures'"),
    ],
)
def test_values_that_options_cannot_have(
    more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_args(["in", "--output", "out", "--config-file", "c.yaml", *more])
    assert message in capsys.readouterr().err


def test_workers_of_one_job_do_not_delete_what_the_others_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        parse_args(["in", "--output", "out", "--config-file", "c.yaml", "--overwrite"])
    assert "delete the folder before they start" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cores", "alone", "workers", "threads", "helpers"),
    [(1, True, 1, 0, 0), (2, True, 2, 1, 0), (16, True, 4, 4, 1), (16, False, 1, 0, 1)],
)
def test_numbers_of_processes_on_a_cpu(
    cores: int,
    alone: bool,
    workers: int,
    threads: int,
    helpers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    args = parse_args(["in", "--output", "out", "--config-file", "c.yaml"])
    expected = {"workers": workers, "threads": threads, "readers": helpers, "encoders": helpers}
    assert processes(args, "cpu", alone) == expected
