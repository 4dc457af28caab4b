"""Two real clips as a dataset of one's own: a step of training, evaluation, drawing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from PIL import Image

import train_net
from demo import demo
from mask2former.data import register
from mask2former.evaluation import evaluate_ytvis
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)

CONFIG = Path(__file__).resolve().parents[2] / "configs/shapes/video/maskformer2_lite0.yaml"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.TIMM.PRETRAINED": "",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": 64,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 1,
    "DATASETS.TRAIN": "('clips',)",
    "DATASETS.TEST": "('clips',)",
    "DATALOADER.NUM_WORKERS": 0,
    "SEED": 1,
}
METRICS = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AP-dog", "AP-car"}


@pytest.fixture
def clips(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the two clips, which are registered as "clips"."""
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    folder = shared / "data" / "video"
    frames, annotations = str(folder / "JPEGImages"), str(folder / "annotations.json")
    register("clips", "video", image_root=frames, annotations=annotations)
    return folder


def call(*arguments: str, **opts: object) -> dict:
    """Runs train_net with the small model; returns the results of the evaluation."""
    words = [str(word) for pair in (SMALL | opts).items() for word in pair]
    args = default_argument_parser().parse_args(["--config-file", str(CONFIG), *arguments, *words])
    return train_net.run(args)


def test_one_step_and_evaluation_whole_and_in_windows(clips: Path, tmp_path: Path) -> None:
    results = call(OUTPUT_DIR=tmp_path, **{"DATASETS.TEST": "()"})
    assert not results
    losses = json.loads((tmp_path / "metrics.json").read_text().splitlines()[0])
    assert 0 < losses["total_loss"] < 1000
    weights = {"MODEL.WEIGHTS": tmp_path / "model_final.pth"}
    truth = clips / "annotations.json"
    for window in (0, 6):
        folder = tmp_path / str(window)
        opts = {"MODEL.MASK_FORMER.TEST.VIDEO_WINDOW": window, "OUTPUT_DIR": folder}
        found = call("--eval-only", **weights | opts)["segm"]
        assert found.keys() == METRICS
        tubes = json.loads((folder / "inference" / "results.json").read_text())
        assert len(tubes) == 20
        assert all(len(tube["segmentations"]) == 16 for tube in tubes)
        scores = json.loads((folder / "inference" / "scores.json").read_text())["results"]
        assert scores["segm"]["AP50"] == found["AP50"]
        assert evaluate_ytvis(truth, tubes) == pytest.approx(found, nan_ok=True)


def test_is_drawn(clips: Path, tmp_path: Path) -> None:
    frames = clips / "JPEGImages" / "dog"
    words = [str(word) for pair in SMALL.items() for word in pair]
    output = ["--output", str(tmp_path / "drawn"), "--confidence-threshold", "0.2"]
    code = demo.main(
        ["--config-file", str(CONFIG), "--video-input", str(frames), *output, "--opts", *words]
    )
    assert code == 0
    for source in frames.iterdir():
        drawn = np.asarray(Image.open(tmp_path / "drawn" / source.name).convert("RGB")).astype(int)
        image = np.asarray(Image.open(source).convert("RGB"))
        assert drawn.shape == image.shape
        assert np.abs(drawn - image).mean() > 2
