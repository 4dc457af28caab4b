"""The command: pictures, result files, videos, what it says about errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install onnxruntime")

from mask2former.formats.rle import run_lengths
from mask2former.runtime.command import main
from tests.runtime.onnx_models import halves, write_model


@pytest.fixture
def model(tmp_path) -> str:
    write_model(tmp_path / "model.onnx")
    return str(tmp_path / "model.onnx")


@pytest.fixture
def photo(tmp_path) -> str:
    Image.fromarray(halves()).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_pictures_and_result_files(model, photo, tmp_path, capsys):
    out = tmp_path / "drawn"
    assert main([model, photo, "--output", str(out), "--save-json"]) == 0
    assert f"1 of 1 images drawn: {out / 'index.html'}" in capsys.readouterr().out
    picture = np.asarray(Image.open(out / "photo_prediction.jpg"))
    assert picture.shape == (64 * 6, 96 * 6, 3)  # small images are enlarged
    panoptic = json.loads((out / "panoptic.json").read_text())
    infos = panoptic["annotations"][0]["segments_info"]
    assert [info["category_id"] for info in infos] == [11, 22]
    assert [c["name"] for c in panoptic["categories"]] == ["red", "blue"]
    (entry,) = json.loads((out / "instances.json").read_text())
    assert entry["category_id"] == 11 and entry["bbox"][:2] == [0, 0]
    assert run_lengths(entry["segmentation"], 64, 96).sum() == 64 * 96
    assert len(json.loads((out / "semantic.json").read_text())) == 2


@pytest.mark.parametrize("kind", ["panoptic", "instance", "semantic"])
def test_each_kind_can_be_drawn(model, photo, tmp_path, kind):
    assert main([model, photo, "--output", str(tmp_path / kind), "--draw", kind]) == 0
    assert (tmp_path / kind / "photo_prediction.jpg").is_file()


def test_damaged_photos_are_left_out(model, photo, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    inputs = [photo, str(tmp_path / "broken.jpg")]
    assert main([model, *inputs, "--output", str(tmp_path / "drawn")]) == 1
    captured = capsys.readouterr()
    assert "left out" in captured.err and "broken.jpg: not an image" in captured.err
    assert "1 of 2 images drawn" in captured.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--providers", "NoSuchProvider"], "which this onnxruntime has, got NoSuchProvider"),
        (["--draw", "semantic", "--max-pixels", "-1"], "max_pixels: expected 0 or more, got -1"),
    ],
)
def test_errors_are_one_line(model, photo, tmp_path, capsys, options, message):
    out = tmp_path / "drawn"
    assert main([model, photo, "--output", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mask2former.runtime: error: ") and message in error
    assert len(error.splitlines()) == 1 and not out.exists()


def test_missing_files(model, photo, tmp_path, capsys):
    out = str(tmp_path / "drawn")
    assert main([str(tmp_path / "no.onnx"), photo, "--output", out]) == 2
    assert "no.onnx" in capsys.readouterr().err
    assert main([model, str(tmp_path / "no.jpg"), "--output", out]) == 2
    assert f"error: {tmp_path / 'no.jpg'}: no such file" in capsys.readouterr().err
    for wrong in ([model, "--output", out], [model, photo, "--video-input", "a", "--output", out]):
        with pytest.raises(SystemExit):
            main(wrong)
    assert "give images, or --video-input, and not both" in capsys.readouterr().err


def test_a_folder_of_frames(model, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        Image.fromarray(halves()).save(frames / f"{number}.png")
    out = tmp_path / "drawn"
    assert main([model, "--video-input", str(frames), "--output", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    arguments = [model, "--video-input", str(frames), "--output", str(tmp_path / "new")]
    assert main([*arguments, "--save-json"]) == 2
    assert "needs a model for video" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert Path(frames / "0.png").is_file()
