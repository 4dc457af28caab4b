"""The quick start learns: with its own backbone and weights it overfits eight drawn images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

import train_net
from mask2former.data.datasets import register_all
from mask2former.data.synthetic import write_shapes
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)

CONFIG = Path(__file__).resolve().parents[2] / "configs/shapes/panoptic/maskformer2_lite0.yaml"
# As the config has it but for small images, few points, no change of scale, and a faster start.
OPTS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 256,
    "INPUT.IMAGE_SIZE": 64,
    "INPUT.MIN_SCALE": 1.0,
    "INPUT.MAX_SCALE": 1.0,
    "INPUT.MIN_SIZE_TEST": 64,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.WARMUP_ITERS": 5,
    "SOLVER.MAX_ITER": 60,
    "SOLVER.LOG_PERIOD": 5,
    "DATASETS.TEST": "('shapes_train_panoptic',)",
    "DATALOADER.NUM_WORKERS": 0,
    "SEED": 1,
}


@pytest.mark.slow
def test_overfits_eight_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    write_shapes(tmp_path, seed=5, train=8, val=1, size=64, workers=1)
    register_all(str(tmp_path))
    opts = [str(word) for pair in (OPTS | {"OUTPUT_DIR": tmp_path}).items() for word in pair]
    results = train_net.run(
        default_argument_parser().parse_args(["--config-file", str(CONFIG), *opts])
    )
    metrics = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    losses = [entry["total_loss"] for entry in metrics if "total_loss" in entry]
    assert losses[-1] < losses[0] / 3  # medians of 20 iterations and of the first 5
    assert results["panoptic_seg"]["PQ"] > 70
    assert results["segm"]["AP"] > 35
    assert results["sem_seg"]["mIoU"] > 70
