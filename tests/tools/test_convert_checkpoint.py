"""The conversion scripts end to end: files that fit, differences printed, errors in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from mask2former.checkpoints.storage.weights_io import load_weights

convert_checkpoint = pytest.importorskip("convert_checkpoint")
TOOLS = Path(__file__).resolve().parents[2] / "tools"


def run(*args):
    convert_checkpoint.main(convert_checkpoint.parse_args([str(arg) for arg in args]))


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def test_torchvision_with_a_check(resnet18, tmp_path, capsys):
    image = np.random.RandomState(0).randint(0, 256, (30, 40, 3), dtype="uint8")
    Image.fromarray(image).save(tmp_path / "image.png")
    target = tmp_path / "R-18.pkl"
    run(
        "--from", "torchvision", "--to", "ours", resnet18, target, "--check", tmp_path / "image.png"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Wrote {target}"
    assert [line.split(":")[0] for line in lines[1:]] == ["res2", "res3", "res4", "res5"]
    loaded, rest = load_weights(target)
    assert rest == {"__author__": "torchvision", "matching_heuristics": True}
    assert loaded["res2.0.conv1.weight"].shape == (64, 64, 3, 3)


def test_a_change_of_format_keeps_the_weights(resnet18, tmp_path):
    run("--from", "ours", "--to", "ours", resnet18, tmp_path / "a.safetensors")
    before, after = load_weights(resnet18)[0], load_weights(tmp_path / "a.safetensors")[0]
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("config", "use", "value", "said"),
    [
        (False, "", 1.0, "Its moving average is left out; --config"),
        (True, "instead", 2.0, ""),
        (True, "never", 1.0, ""),
    ],
)
def test_a_moving_average_is_taken_as_the_config_says(
    config: bool, use: str, value: float, said: str, tmp_path, capsys
):
    average = {"weights": {"w": torch.tensor([2.0])}, "updates": 3}
    torch.save({"model": {"w": torch.tensor([1.0])}, "ema": average}, tmp_path / "a.pth")
    target = tmp_path / "b.safetensors"
    opts = ["--config", TOOLS.parent / "configs/shapes/Base-Shapes.yaml"] if config else []
    keys = ["SOLVER.EMA.ENABLED", "True", "TEST.EMA", use] if config else []
    run("--from", "ours", "--to", "ours", *opts, tmp_path / "a.pth", target, *keys)
    assert load_weights(target)[0]["w"].item() == value
    assert capsys.readouterr().out.startswith(said or "Wrote")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "hf", "--to", "hf", "a", "b"], "convert to ours first"),
        (["--from", "ours", "--to", "hf", "a", "b"], "--to hf needs the --config"),
        (["--from", "ours", "--to", "ours", "--check", "x", "a", "b"], "two libraries"),
    ],
)
def test_arguments_that_do_not_fit_together(args, message, capsys):
    with pytest.raises(SystemExit):
        convert_checkpoint.parse_args(args)
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchvision-to", "pretrained-swin-model-to"])
def test_the_published_commands(kind, resnet18, tmp_path):
    source = resnet18
    if "swin" in kind:
        source = tmp_path / "swin.pth"
        name = "layers.0.blocks.0.attn.relative_position_bias_table"
        torch.save({"model": {name: torch.ones(169, 3)}}, source)
    command = [sys.executable, str(TOOLS / f"convert-{kind}-d2.py"), str(source)]
    subprocess.run([*command, str(tmp_path / "out.pkl")], check=True)
    assert load_weights(tmp_path / "out.pkl")[1]["matching_heuristics"]
    failed = subprocess.run([*command, str(tmp_path / "out.txt")], capture_output=True, text=True)
    assert failed.returncode == 1 and "expected the suffix" in failed.stderr
    assert "Traceback" not in failed.stderr
