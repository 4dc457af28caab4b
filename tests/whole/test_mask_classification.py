"""A classifier of masks learns through train_net: it learns eight drawn images by heart."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

import train_net
from mask2former.data.datasets import register_all
from mask2former.data.synthetic import write_shapes
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)

CONFIGS = Path(__file__).resolve().parents[2] / "configs/shapes"
CONFIG = CONFIGS / "mask-classification" / "maskformer2_lite0.yaml"
# As the config has it but for small images, no change of scale, and a faster start.
OPTS = {
    "MODEL.DEVICE": "cpu",
    "INPUT.IMAGE_SIZE": 64,
    "INPUT.MIN_SIZE_TEST": 64,
    "SOLVER.BASE_LR": 0.002,
    "SOLVER.WARMUP_ITERS": 5,
    "SOLVER.MAX_ITER": 40,
    "DATASETS.TEST": "('shapes_train_panoptic',)",
    "DATALOADER.NUM_WORKERS": 0,
    "SEED": 1,
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    write_shapes(tmp_path, seed=5, train=8, val=1, size=64, workers=1)
    register_all(str(tmp_path))
    return tmp_path


def run(data: Path, *args: str, **opts: object) -> dict:
    pairs = (OPTS | {"OUTPUT_DIR": data / "out"} | opts).items()
    words = [str(word) for pair in pairs for word in pair]
    return train_net.run(
        default_argument_parser().parse_args(["--config-file", str(CONFIG), *args, *words])
    )


def test_learns_names_and_evaluates_them_in_two_ways(data: Path) -> None:
    results = run(data)
    assert results["mask_classes"]["accuracy"] > 85
    assert results["segm"]["AP"] > 75
    assert results["segm"]["AP"] == pytest.approx(results["segm"]["AP50"])  # masks are perfect
    assert results["panoptic_seg"]["SQ"] == pytest.approx(100)
    # Its own results, as masks to name: the same instances again.
    file = data / "out" / "inference" / "coco_instances_results.json"
    again = run(
        data,
        "--eval-only",
        **{
            "MODEL.WEIGHTS": data / "out" / "model_final.pth",
            "INPUT.MASK_PROPOSALS.TEST_FILE": file,
            "OUTPUT_DIR": data / "again",
        },
    )
    assert again["segm"]["AP"] > 0.8 * results["segm"]["AP"]
