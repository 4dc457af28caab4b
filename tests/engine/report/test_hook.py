"""The report of a training that runs."""

import argparse
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from PIL import Image

from mask2former.engine import defaults
from mask2former.engine.report import hook
from mask2former.engine.report.facts import write_run_facts
from mask2former.engine.report.pictures import write_training_pictures
from tests.engine.stub import StubTrainer, make_cfg


def test_written_at_evaluations_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    states = []

    def write(folder: Path) -> Path:
        lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
        states.append([line["iteration"] for line in lines if "fit/error" in line])
        return folder / "report.html"

    monkeypatch.setattr(hook, "write_report", write)
    # 3 is no multiple of LOG_PERIOD 2: measurements are written before they are read
    StubTrainer(make_cfg(tmp_path, "TRAINING.REPORT", True, "TEST.EVAL_PERIOD", 3)).train()
    assert states == [[2], [2, 5], [2, 5, 8], [2, 5, 8, 10]]
    lines = [message for message in messages.messages if message.startswith("iter ")]
    assert len(lines) == 5  # no line comes twice
    assert f"Report: {tmp_path / 'report.html'}" in messages.text


def test_the_page_of_a_training(tmp_path: Path) -> None:
    cfg = make_cfg(tmp_path, "TRAINING.REPORT", True)
    defaults.setup(cfg, argparse.Namespace())
    StubTrainer(cfg).train()
    text = (tmp_path / "report.html").read_text()
    assert "finished: 10 iterations" in text
    assert "<td>fit</td><td>error</td>" in text
    assert (
        "<td>torch</td><td>" in text and "<td>SOLVER.MAX_ITER</td><td>40000</td><td>10</td>" in text
    )


def test_a_full_disk_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hook, "write_report", fail)
    cfg = make_cfg(tmp_path, "TRAINING.REPORT", True, "TEST.EVAL_PERIOD", 4)
    results = StubTrainer(cfg).train()
    assert results["fit"]["n"] == 12
    assert messages.text.count("The report is not written: [Errno 28] No space left") == 3
    assert (tmp_path / "model_final.pth").is_file()


def test_not_written_where_it_is_turned_off(tmp_path: Path) -> None:
    StubTrainer(make_cfg(tmp_path, "TRAINING.REPORT", False)).train()
    assert not (tmp_path / "report.html").exists()


def test_training_pictures(tmp_path: Path) -> None:
    MetadataCatalog.get("report_test").thing_classes = ["cat"]
    image = torch.zeros(3, 400, 600, dtype=torch.uint8)
    image[0] = 200  # blue, as BGR
    targets = Instances((400, 600))
    targets.gt_masks = torch.zeros(1, 400, 600, dtype=torch.bool)
    targets.gt_masks[:, :, :300] = True
    targets.gt_classes = torch.tensor([0])
    batch = [
        {"image": image, "instances": targets},
        {"image": [image, image], "instances": [targets] * 2},
    ]
    assert write_training_pictures(tmp_path, batch, 0, "report_test", "BGR") == 2
    assert write_training_pictures(tmp_path, batch, 11, "report_test", "BGR") == 12
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["training_00.jpg", "training_01.jpg", "training_11.jpg"]
    picture = np.asarray(Image.open(tmp_path / "training_00.jpg")).astype(int)
    assert picture.shape == (320, 480, 3)
    assert np.abs(picture[:, 300:].mean((0, 1)) - (0, 0, 200)).max() < 5  # blue where no target is
    assert np.abs(picture[20:, 20:200].mean((0, 1)) - (0, 0, 200)).max() > 40
    MetadataCatalog.pop("report_test")


def test_training_pictures_have_stuff_in_the_colours_of_the_dataset(tmp_path: Path) -> None:
    MetadataCatalog.get("report_test").set(
        stuff_classes=["cat", "sky"],
        stuff_colors=[[9, 9, 9], [10, 200, 30]],
        thing_dataset_id_to_contiguous_id={5: 0},
    )
    targets = Instances((400, 600))
    targets.gt_masks = torch.zeros(2, 400, 600, dtype=torch.bool)
    targets.gt_masks[0, :, :300] = targets.gt_masks[1, :, 300:] = True
    targets.gt_classes = torch.tensor([0, 1])
    image = torch.zeros(3, 400, 600, dtype=torch.uint8)
    write_training_pictures(
        tmp_path, [{"image": image, "instances": targets}], 0, "report_test", "RGB"
    )
    picture = np.asarray(Image.open(tmp_path / "training_00.jpg")).astype(float)
    cat, sky = picture[300:, :200].mean((0, 1)), picture[300:, 300:].mean((0, 1))
    assert np.abs(sky / sky[1] - (0.05, 1, 0.15)).max() < 0.05
    assert np.ptp(cat) > 30  # an object's colour, not the grey of its class
    MetadataCatalog.pop("report_test")


def test_facts_compare_with_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("SEED: 3\nSOLVER:\n  MAX_ITER: 5\n")
    (tmp_path / "config.yaml").write_text("_BASE_: base.yaml\nSOLVER:\n  IMS_PER_BATCH: 4\n")
    cfg = make_cfg(tmp_path, "SEED", 3, "SOLVER.MAX_ITER", 5, "SOLVER.IMS_PER_BATCH", 4)

    class Arguments:
        config_file = str(tmp_path / "config.yaml")

    write_run_facts(cfg, Arguments)
    facts = json.loads((tmp_path / "run.json").read_text())
    changes = {key: (before, after) for key, before, after in facts["changes"]}
    assert changes["SOLVER.IMS_PER_BATCH"] == (16, 4)
    assert "SEED" not in changes and "SOLVER.MAX_ITER" not in changes
    assert facts["base"].endswith("base.yaml")
    assert torch.__version__.startswith(facts["versions"]["torch"])
    commit = facts["commit"]
    assert commit is None or len(commit.split()[0]) == 40
