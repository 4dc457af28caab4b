"""The training script from start to end on a few drawn images, and how it reports errors."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.engine import DefaultTrainer, default_argument_parser, launch
from detectron2.projects.deeplab import build_lr_scheduler

import train_net
from mask2former import MaskFormerPanopticDatasetMapper
from mask2former.data.datasets.builtin import register_shapes
from mask2former.data.synthetic import write_shapes
from mask2former.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.TIMM.PRETRAINED", "", "INPUT.IMAGE_SIZE", "64"),
    *("MODEL.MASK_FORMER.HIDDEN_DIM", "32", "MODEL.MASK_FORMER.DEC_LAYERS", "2"),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "10", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
    *("INPUT.MIN_SIZE_TEST", "64", "DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2"),
    *("SOLVER.MAX_ITER", "2", "TEST.AUG.MIN_SIZES", "(64,)", "SEED", "1"),
    *("TRAINING.REPORT", "False"),
]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small shapes dataset, registered in place of the usual one."""
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root, seed=5, train=6, val=3, size=64, workers=1)
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    for name in [name for name in DatasetCatalog.data if name.startswith("shapes_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_shapes(str(root))
    yield root
    for catalog, data in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        catalog.data.clear()
        catalog.data.update(data)


def arguments(task: str, *flags: str, **opts: object) -> argparse.Namespace:
    config = str(ROOT / f"configs/shapes/{task}/maskformer2_lite0.yaml")
    words = [str(word) for pair in opts.items() for word in pair]
    return default_argument_parser().parse_args(["--config-file", config, *flags, *SMALL, *words])


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("panoptic", {"panoptic_seg", "bbox", "segm", "sem_seg"}),
        ("instance", {"bbox", "segm"}),
        ("semantic", {"sem_seg"}),
    ],
)
def test_trains_and_evaluates(shapes: Path, tmp_path: Path, task: str, expected: set[str]) -> None:
    results = train_net.run(arguments(task, OUTPUT_DIR=tmp_path))
    assert set(results) == expected
    metrics = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    names = {f"loss_{kind}{layer}" for kind in ("ce", "mask", "dice") for layer in ("", "_0")}
    assert names <= set(metrics[0])


def test_resumes_and_evaluates_averages(shapes: Path, tmp_path: Path) -> None:
    trained = train_net.run(arguments("panoptic", OUTPUT_DIR=tmp_path))
    results = train_net.run(
        arguments(
            "panoptic", "--eval-only", "--resume", OUTPUT_DIR=tmp_path, **{"TEST.AUG.ENABLED": True}
        )
    )
    assert set(results) == {"panoptic_seg", "bbox", "segm", "sem_seg", "sem_seg_TTA"}
    assert json.dumps({**trained, "sem_seg_TTA": results["sem_seg_TTA"]}) == json.dumps(results)
    written = json.loads((tmp_path / "inference_TTA" / "results.json").read_text())
    assert set(written["results"]) == {"sem_seg_TTA"}
    longer = {"SOLVER.MAX_ITER": 3, "OUTPUT_DIR": tmp_path}
    train_net.run(arguments("panoptic", "--resume", **longer))
    last = torch.load(tmp_path / "model_final.pth")
    assert last["trainer"]["hooks"]["LRScheduler"]["max_iters"] == 3
    assert last["iteration"] == 2 and last["trainer"]["_trainer"]["optimizer"]["state"]


@pytest.mark.slow
def test_as_a_script_of_detectron2s_projects(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a Trainer that overrides what theirs override, with their arguments."""
    called: list[str] = []

    class Trainer(train_net.Trainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name, output_folder=None):
            called.append("build_evaluator")
            if output_folder is None:
                output_folder = str(tmp_path / "mine")
            return super().build_evaluator(cfg, dataset_name, output_folder)

        @classmethod
        def build_train_loader(cls, cfg):
            called.append("build_train_loader")
            mapper = MaskFormerPanopticDatasetMapper(cfg, True)
            return build_detection_train_loader(cfg, mapper=mapper)

        @classmethod
        def build_lr_scheduler(cls, cfg, optimizer):
            called.append("build_lr_scheduler")
            return build_lr_scheduler(cfg, optimizer)

        @classmethod
        def build_optimizer(cls, cfg, model):
            called.append("build_optimizer")
            return torch.optim.SGD(model.parameters(), 0.001)

        @classmethod
        def test(cls, cfg, model, evaluators=None):
            called.append("test")
            return DefaultTrainer.test.__func__(cls, cfg, model, evaluators)

        @classmethod
        def test_with_TTA(cls, cfg, model):
            called.append("test_with_TTA")
            return super().test_with_TTA(cfg, model)

        def build_hooks(self):
            called.append("build_hooks")
            return super().build_hooks()

    monkeypatch.setattr(train_net, "Trainer", Trainer)
    args = arguments("panoptic", OUTPUT_DIR=tmp_path)
    cfg = train_net.setup(args)
    assert isinstance(cfg, CfgNode) and cfg.is_frozen() and str(tmp_path) == cfg.OUTPUT_DIR
    launch(train_net.main, args.num_gpus, args.num_machines, args=(args,))
    trained = ["build_train_loader", "build_optimizer", "build_lr_scheduler", "build_hooks"]
    assert called == [*trained, "test", "build_evaluator"]
    assert (tmp_path / "model_final.pth").is_file() and (tmp_path / "config.yaml").is_file()
    called.clear()
    args = arguments(
        "panoptic", "--eval-only", "--resume", OUTPUT_DIR=tmp_path, **{"TEST.AUG.ENABLED": True}
    )
    results = train_net.main(args)
    assert called == ["test", "build_evaluator", "test_with_TTA", "build_evaluator", "test"]
    assert set(results) == {"panoptic_seg", "bbox", "segm", "sem_seg", "sem_seg_TTA"}


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 133},
            "NUM_CLASSES is 133, but shapes_train_panoptic has",
        ),
        ({"SOLVER.OPTIMISER": "SGD"}, "there is no config key SOLVER.OPTIMISER"),
        ({"MODEL.WEIGHTS": "/missing/model.pth"}, "/missing/model.pth"),
        ({"SOLVER.OPTIMIZER": "LION"}, 'must be "ADAMW" or "SGD"'),
    ],
)
def test_errors_end_with_one_line(
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    opts: dict[str, object],
    message: str,
) -> None:
    monkeypatch.delenv("MASK2FORMER_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        train_net.run(arguments("panoptic", OUTPUT_DIR=tmp_path, **opts))
    assert ended.value.code == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("train_net.py: error: ") and message in last
    monkeypatch.setenv("MASK2FORMER_DEBUG", "1")
    with pytest.raises((ValueError, OSError)):
        train_net.run(arguments("panoptic", OUTPUT_DIR=tmp_path, **opts))


def test_a_fault_of_the_program_shows_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(train_net, "Trainer", fail)
    with pytest.raises(ValueError, match="^a fault$"):
        train_net.run(arguments("panoptic", OUTPUT_DIR=tmp_path))


def test_error_in_a_loader_worker_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError(
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        'last):\n  File "a.py", line 1\n'
        "mask2former.errors.UserError: a.jpg cannot be read: truncated"
    )
    with pytest.raises(SystemExit):
        train_net.fail(error)
    assert capsys.readouterr().err == "train_net.py: error: a.jpg cannot be read: truncated\n"
