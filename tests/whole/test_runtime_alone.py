"""The whole way: train, export, install the runtime alone somewhere else, draw the same there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from PIL import Image

import train_net
from mask2former.data.datasets import register_all
from mask2former.data.synthetic import write_shapes
from mask2former.formats.label_maps import read_panoptic_png
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.whole.test_quick_start import CONFIG, OPTS

ROOT = Path(__file__).resolve().parents[2]


def run(*command, cwd: Path) -> None:
    found = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The Python of a new environment that has the wheel with the extra runtime, and no torch."""
    folder = tmp_path_factory.mktemp("alone")
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    for name in ("configs", "mask2former", "mask2former_video"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--no-index", "--wheel-dir", folder / "out", folder, cwd=folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = (folder / "out").glob("*.whl")
    install = [python, "-m", "pip", "install", "--quiet", f"{wheel}[runtime]"]
    found = subprocess.run(install, capture_output=True, text=True, check=False)
    if "No matching distribution" in found.stderr or "Connection" in found.stderr:
        pytest.skip("no package index can be reached for the environment of the runtime")
    assert found.returncode == 0, found.stderr
    return python


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a model that has learned eight drawn images, which are in a folder."""
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    write_shapes(tmp_path, seed=5, train=8, val=1, size=64, workers=1)
    register_all(str(tmp_path))
    opts = [str(word) for pair in (OPTS | {"OUTPUT_DIR": tmp_path}).items() for word in pair]
    train_net.run(default_argument_parser().parse_args(["--config-file", str(CONFIG), *opts]))
    return [*opts, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trained_model_draws_the_same_elsewhere(installed, trained, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install onnxruntime")
    pytest.importorskip("onnxscript", reason="onnxscript is missing: pip install onnxscript")
    config = ["--config-file", str(CONFIG)]
    photos = tmp_path / "shapes" / "images" / "train"
    export = ["-m", "mask2former.export", *config, "--output", tmp_path / "m.onnx"]
    run(sys.executable, *export, "--opts", *trained, cwd=ROOT)  # pytest would keep torch's tracing
    here, there = tmp_path / "here", tmp_path / "there"
    drawing = [ROOT / "demo" / "demo.py", *config, "--input", photos, "--output", here]
    run(sys.executable, *drawing, "--save-json", "--opts", *trained, cwd=ROOT)
    command = ["-m", "mask2former.runtime", tmp_path / "m.onnx", photos, "--output", there]
    run(installed, *command, "--save-json", cwd=tmp_path)

    expected, found = (json.loads((out / "panoptic.json").read_text()) for out in (here, there))
    assert found["categories"] == expected["categories"]
    assert [image["height"] for image in found["images"]] == [64] * 8
    for mine, theirs in zip(found["annotations"], expected["annotations"], strict=True):
        maps = [read_panoptic_png(o / "panoptic" / mine["file_name"]) for o in (there, here)]
        assert (maps[0] != maps[1]).mean() <= 1e-3
        assert len(mine["segments_info"]) == len(theirs["segments_info"]) > 0
    pictures = sorted(path.name for path in here.glob("*_prediction.jpg"))
    assert len(pictures) == 8
    for name in pictures:
        both = [np.asarray(Image.open(out / name)).astype(int) for out in (there, here)]
        assert np.abs(both[0] - both[1]).mean() < 0.5
