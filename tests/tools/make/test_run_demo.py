"""The script behind `make demo`: the commands that it runs, and what it prints."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import run_demo


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, without the interpreter; all end well."""
    ran: list[list[str]] = []

    def run(command: list[str], **_):
        ran.append(command[1:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data")
    return ran


def write_results(output: Path, **results: dict[str, float]) -> None:
    (output / "inference").mkdir()
    (output / "inference" / "results.json").write_text(json.dumps({"results": results}))


def test_draws_trains_and_shows(
    commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path, panoptic_seg={"PQ": 71.26}, segm={"AP": 40.0}, sem_seg={"mIoU": 80.5})
    run_demo.main(["--output", str(tmp_path), "SOLVER.MAX_ITER", "7"])
    prepare, train, draw = commands
    assert prepare[:3] == ["datasets/prepare_shapes.py", "--output", "/data"]
    assert train[0] == "train_net.py" and "--resume" in train
    assert train[-4:] == ["SOLVER.MAX_ITER", "7", "OUTPUT_DIR", str(tmp_path)]
    assert draw[0] == "demo/demo.py" and draw[draw.index("--dataset") + 1] == "shapes_val_panoptic"
    opts = draw[draw.index("--opts") + 1 :]
    weights = ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    assert opts == ["SOLVER.MAX_ITER", "7", *weights]
    for command in (train, draw):
        assert (run_demo.ROOT / command[command.index("--config-file") + 1]).is_file()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["panoptic_seg", "PQ", "71.3"] in rows
    assert ["segm", "AP", "40.0"] in rows
    assert ["sem_seg", "mIoU", "80.5"] in rows
    assert rows[-2][-1] == str(tmp_path / "report.html")
    assert rows[-1][-1] == str(tmp_path / "pictures" / "index.html")


def test_tasks_that_were_not_evaluated(
    commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path, sem_seg={"mIoU": 80.5})
    run_demo.main(["--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert "80.5" in out and "PQ" not in out


def test_the_first_failure_ends_it(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    codes = iter([0, 3])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=next(codes)))
    with pytest.raises(SystemExit) as ended:
        run_demo.main(["--output", str(tmp_path)])
    assert ended.value.code == 3
    assert list(codes) == []


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    with pytest.raises(SystemExit, match="interrupted; the same command goes on from here"):
        run_demo.step("title", "command")
