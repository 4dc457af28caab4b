"""Real photos and annotations, registered as datasets of one's own, train a small model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

import train_net
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.photos import register_photos

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.TIMM.PRETRAINED": "",
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 20,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 128,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 1,
    "DATASETS.TRAIN": "('photos',)",
    "DATALOADER.NUM_WORKERS": 0,
    "SEED": 1,
}
LOSSES = {f"loss_{kind}{layer}" for kind in ("ce", "mask", "dice") for layer in ("", "_0")}


@pytest.fixture(autouse=True)
def empty_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})


def train(task: str, output: Path, **opts: object) -> tuple[dict, dict]:
    """Trains for one iteration; returns the results of the evaluation and the losses."""
    config = ROOT / f"configs/shapes/{task}/maskformer2_lite0.yaml"
    words = [str(word) for pair in (SMALL | {"OUTPUT_DIR": output} | opts).items() for word in pair]
    args = default_argument_parser().parse_args(["--config-file", str(config), *words])
    results = train_net.run(args)
    metrics = json.loads((output / "metrics.json").read_text().splitlines()[0])
    return results or {}, {key: value for key, value in metrics.items() if "loss" in key}


def test_panoptic_photos_train_and_evaluate(shared: Path, tmp_path: Path) -> None:
    register_photos(shared, "panoptic")
    results, losses = train(
        "panoptic",
        tmp_path,
        **{"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 133, "DATASETS.TEST": "('photos',)"},
    )
    assert set(losses) == LOSSES | {"total_loss"}
    assert all(math.isfinite(loss) and loss > 0 for loss in losses.values())
    assert set(results) == {"panoptic_seg", "bbox", "segm", "sem_seg"}
    for task, metric in (("panoptic_seg", "PQ"), ("segm", "AP"), ("sem_seg", "mIoU")):
        assert 0 <= results[task][metric] < 20  # it knows nothing yet


def test_instance_photos_train(shared: Path, tmp_path: Path) -> None:
    file = register_photos(shared, "instance")
    classes = len(json.loads(file.read_text())["categories"])
    opts = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": classes, "DATASETS.TEST": "()"}
    _, losses = train("instance", tmp_path, **opts)
    assert set(losses) == LOSSES | {"total_loss"}
    assert all(math.isfinite(loss) and loss > 0 for loss in losses.values())
