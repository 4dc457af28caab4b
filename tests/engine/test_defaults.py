"""Errors that end a run before it starts, with their messages; the log files."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

import mask2former.data  # noqa: F401  registers the datasets
from mask2former.engine import defaults
from mask2former.errors import UserError
from mask2former.modeling.build import resolve_device
from tests.engine.stub import StubTrainer, make_cfg


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    """A registered dataset of two things and three classes in all, whose folder is there."""
    name = f"test_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: [])
    MetadataCatalog.get(name).set(
        image_root=str(tmp_path), thing_classes=["a", "b"], stuff_classes=["a", "b", "c"]
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def model_cfg(folder: Path, name: str, num_classes: int, **changes: str) -> CfgNode:
    cfg = make_cfg(folder, "DATASETS.TRAIN", (name,), "DATASETS.TEST", ())
    cfg.MODEL.META_ARCHITECTURE = changes.get("architecture", "MaskFormer")
    cfg.INPUT.DATASET_MAPPER_NAME = changes.get("mapper", "mask_former_panoptic")
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
    return cfg


def test_output_folder_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cfg = make_cfg(tmp_path / "file" / "out")
    with pytest.raises(
        NotADirectoryError, match=r"OUTPUT_DIR '.*out' cannot be written .Not a dir"
    ):
        defaults.validate(cfg)
    with pytest.raises(NotADirectoryError, match="choose another folder"):
        StubTrainer(cfg)


def test_output_folder_is_made(tmp_path: Path) -> None:
    defaults.validate(make_cfg(tmp_path / "a" / "b"))
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("name", ["IMS_PER_BATCH", "MAX_ITER", "LOG_PERIOD", "CHECKPOINT_PERIOD"])
def test_numbers_that_have_to_be_above_zero(tmp_path: Path, name: str) -> None:
    cfg = make_cfg(tmp_path, f"SOLVER.{name}", 0, "SOLVER.REFERENCE_BATCH", 4)
    with pytest.raises(ValueError, match=f"SOLVER.{name}: expected 1 or more, got 0"):
        StubTrainer(cfg)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("SOLVER.BASE_LR", -0.1, "SOLVER.BASE_LR: expected 0 or more, got -0.1"),
        ("SOLVER.BASE_LR", float("inf"), "SOLVER.BASE_LR: expected 0 or more, got inf"),
        ("SOLVER.WEIGHT_DECAY", float("nan"), "SOLVER.WEIGHT_DECAY: expected 0 or more, got nan"),
        ("SOLVER.EMA.WARMUP", float("inf"), "SOLVER.EMA.WARMUP: expected 0 or more, got inf"),
        ("DATALOADER.NUM_WORKERS", -1, "DATALOADER.NUM_WORKERS: expected 0 or more, got -1"),
        ("TEST.BEST.PATIENCE", 2, "PATIENCE is 2, but TEST.BEST.METRIC is empty: set the metric"),
        ("MODEL.DEVICE", "cpux", "MODEL.DEVICE: expected cpu, cuda or cuda:NUMBER, got 'cpux'"),
        ("SOLVER.LR_SCHEDULER_NAME", "Cosine", "LR_SCHEDULER_NAME must be one of WarmupPolyLR, "),
        ("SOLVER.WARMUP_METHOD", "slow", "WARMUP_METHOD must be one of linear, constant, not 'sl"),
        ("SOLVER.STEPS", (5, 3), "STEPS: expected ascending iterations from 1 on, none of them"),
        ("SOLVER.STEPS", (10,), r"none of them MAX_ITER 10, got \(10,\)"),
    ],
)
def test_values_that_no_training_has(
    tmp_path: Path, key: str, value: object, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        StubTrainer(make_cfg(tmp_path, key, value))


@pytest.mark.parametrize("name", ["NUM_OBJECT_QUERIES", "TRAIN_NUM_POINTS"])
def test_models_need_queries_and_points(tmp_path: Path, name: str) -> None:
    cfg = make_cfg(tmp_path, f"MODEL.MASK_FORMER.{name}", 0)
    with pytest.raises(UserError, match=f"MASK_FORMER.{name}: expected 1 or more, got 0"):
        defaults.validate(cfg)
    defaults.validate(cfg, eval_only=True)


def test_no_training_data(tmp_path: Path) -> None:
    cfg = make_cfg(tmp_path, "DATASETS.TRAIN", ())
    with pytest.raises(ValueError, match=r"DATASETS\.TRAIN is empty"):
        defaults.validate(cfg)
    defaults.validate(cfg, eval_only=True)


def test_unknown_data_set_names_near_ones(tmp_path: Path) -> None:
    cfg = make_cfg(tmp_path, "DATASETS.TRAIN", ("shapes_train_panoptik",))
    expected = "no dataset named 'shapes_train_panoptik'.*near names: shapes_train_panoptic"
    with pytest.raises(ValueError, match=expected):
        defaults.validate(cfg)


def test_missing_folder(tmp_path: Path, dataset: str) -> None:
    MetadataCatalog.get(dataset).set(sem_seg_root=str(tmp_path / "labels"))
    expected = f"dataset {dataset}: {tmp_path}/labels is missing.*DETECTRON2_DATASETS"
    with pytest.raises(FileNotFoundError, match=expected):
        defaults.validate(model_cfg(tmp_path, dataset, 3))


def test_missing_shapes_say_what_makes_them(tmp_path: Path) -> None:
    if Path(MetadataCatalog.get("shapes_train_panoptic").image_root).exists():
        pytest.skip("the shapes dataset has been made")
    cfg = model_cfg(tmp_path, "shapes_train_panoptic", 10)
    with pytest.raises(FileNotFoundError, match=r"python datasets/prepare_shapes\.py --output"):
        defaults.validate(cfg)


def test_missing_builtin_data_set_of_detectron2(tmp_path: Path) -> None:
    if Path(MetadataCatalog.get("coco_2017_train").image_root).exists():
        pytest.skip("COCO is there")
    cfg = model_cfg(tmp_path, "coco_2017_train", 80, mapper="coco_instance_lsj")
    with pytest.raises(FileNotFoundError, match=r"train2017 is missing.*datasets/README\.md"):
        defaults.validate(cfg)


@pytest.mark.parametrize(
    ("changes", "fitting"),
    [
        ({"mapper": "mask_former_panoptic"}, 3),
        ({"mapper": "mask_former_semantic"}, 3),
        ({"mapper": "coco_instance_lsj"}, 2),
        ({"architecture": "VideoMaskFormer"}, 2),
    ],
)
def test_number_of_classes(
    tmp_path: Path, dataset: str, changes: dict[str, str], fitting: int
) -> None:
    defaults.validate(model_cfg(tmp_path, dataset, fitting, **changes))
    expected = f"NUM_CLASSES is 133, but {dataset} has {fitting} classes .*; set it to {fitting}"
    with pytest.raises(ValueError, match=expected):
        defaults.validate(model_cfg(tmp_path, dataset, 133, **changes))


def test_number_of_classes_of_the_test_data(tmp_path: Path, dataset: str) -> None:
    cfg = model_cfg(tmp_path, dataset, 5)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("stub",), (dataset,)
    for eval_only in (False, True):
        with pytest.raises(ValueError, match="NUM_CLASSES is 5, but"):
            defaults.validate(cfg, eval_only=eval_only)


def test_video_models_map_further_training_data_to_the_classes_of_the_first(
    tmp_path: Path, dataset: str
) -> None:
    cfg = model_cfg(tmp_path, "first", 40, architecture="VideoMaskFormer")
    DatasetCatalog.register("first", list)
    MetadataCatalog.get("first").set(thing_classes=["thing"] * 40)
    try:
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("first", dataset), ()
        defaults.validate(cfg)
        cfg.DATASETS.TEST = (dataset,)
        with pytest.raises(ValueError, match=f"NUM_CLASSES is 40, but {dataset} has 2 classes"):
            defaults.validate(cfg)
    finally:
        DatasetCatalog.remove("first")
        MetadataCatalog.remove("first")


def test_other_architectures_count_classes_themselves(tmp_path: Path, dataset: str) -> None:
    defaults.validate(model_cfg(tmp_path, dataset, 133, architecture="PanopticFPN"))


def test_batch_that_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults.comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="IMS_PER_BATCH is 3, which 2 processes cannot share"):
        defaults.validate(make_cfg(tmp_path, "SOLVER.IMS_PER_BATCH", 3))


def test_synchronised_norms_on_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = make_cfg(tmp_path, "MODEL.SEM_SEG_HEAD.NORM", "SyncBN")
    defaults.validate(cfg)
    monkeypatch.setattr(defaults.comm, "get_world_size", lambda: 2)
    with pytest.raises(
        ValueError, match=r"SEM_SEG_HEAD\.NORM is SyncBN.*naiveSyncBN does the same"
    ):
        defaults.validate(cfg)


def test_device_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = make_cfg(tmp_path, "MODEL.DEVICE", "cuda")
    cfg.freeze()
    resolved = resolve_device(cfg)
    assert resolved.MODEL.DEVICE == "cpu" and resolved.is_frozen()
    assert cfg.MODEL.DEVICE == "cuda"


def test_setup_keeps_the_config_in_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    defaults.setup(make_cfg(tmp_path, "SEED", 1), argparse.Namespace(eval_only=True))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["SOLVER"]["MAX_ITER"] == 10
    assert "MAX_ITER" not in capsys.readouterr().out
    logged = (tmp_path / "log.txt").read_text()
    assert "Process 0 of 1" in logged and "MAX_ITER: 10" in logged and "PyTorch" in logged


def test_only_in_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    log = logging.getLogger("mask2former")
    screen = logging.StreamHandler(sys.stdout)
    monkeypatch.setattr(log, "handlers", [screen])
    with defaults.only_in_file():
        assert screen.level == logging.WARNING
    assert screen.level == logging.NOTSET
