"""The command that tells what a model costs: its tables, and its errors."""

from pathlib import Path

import analyze_model
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "shapes" / "panoptic" / "maskformer2_lite0.yaml")
NO_WEIGHTS = ["MODEL.TIMM.PRETRAINED", "", "MODEL.DEVICE", "cpu"]


def run(capsys: pytest.CaptureFixture, *words: str) -> str:
    analyze_model.main([*words, "--config-file", CONFIG, *NO_WEIGHTS])
    return capsys.readouterr().out


def total(text: str, title: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(f"{title}, 1 input(s)"))
    return float(line.split(": ")[1].split(" +-")[0])


def test_costs_of_a_given_size(capsys: pytest.CaptureFixture) -> None:
    out = run(capsys, "--tasks", "flop", "activation", "parameter", "--input-size", "96", "128")
    assert "sem_seg_head" in out and "    pixel_decoder" in out
    assert total(out, "M activations") > 0.5
    assert 0.02 < total(out, "G multiply-adds") < 2
    assert "Millions of parameters:\nmodel " in out
    assert "structure" not in out and "MaskFormer(" not in out


def test_structure(capsys: pytest.CaptureFixture) -> None:
    assert run(capsys, "--tasks", "structure").startswith("MaskFormer(")


def test_errors_end_with_one_line(capsys) -> None:
    with pytest.raises(SystemExit, match=r"^1$"):
        words = ["--tasks", "parameter", "--config-file", CONFIG, "MODEL.NAMES", "1"]
        analyze_model.main(words)
    error = capsys.readouterr().err
    assert error.startswith("analyze_model.py: error: ") and "there is no config key" in error
    assert error.count("\n") == 1
    with pytest.raises(SystemExit) as info:
        run(capsys, "--tasks", "flop", "--input-size", "0", "64")
    assert info.value.code == 2


def test_unknown_dataset_is_one_line(capsys) -> None:
    words = ["--tasks", "flop", "--config-file", CONFIG, "DATASETS.TEST", "('nowhere',)"]
    with pytest.raises(SystemExit):
        analyze_model.main(words)
    assert "error: there is no dataset named 'nowhere'; near names" in capsys.readouterr().err
