"""The package as users get it: its names, what importing it does, what its wheel holds."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import mask2former
from mask2former.config import get_config

ROOT = Path(__file__).resolve().parents[2]

# What the two published packages, mask2former and mask2former_video, export.
PUBLISHED = (
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "InstanceSegEvaluator",
    "MaskFormer",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "SemanticSegmentorWithTTA",
    "VideoMaskFormer",
    "YTVISDatasetMapper",
    "YTVISEvaluator",
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
)

# Imports the package in a fresh process, beside a dataset of somebody else, and again.
IMPORT = """
import importlib, json, sys
import detectron2.data, detectron2.engine, detectron2.modeling
catalog = detectron2.data.DatasetCatalog
catalog.register("ytvis_2019_train", lambda: ["mine"])
detectron2.data.MetadataCatalog.get("ytvis_2019_train").thing_classes = ["mine"]
before = set(sys.modules)
import mask2former
modules = sorted(set(sys.modules) - before)
packages = [{name.partition(".")[0] for name in names} for names in (modules, before)]
names = catalog.list()
importlib.reload(mask2former)
importlib.reload(mask2former.data.datasets)
print(json.dumps({
    "modules": modules,
    "packages": sorted(packages[0] - packages[1]),
    "data": catalog.get("ytvis_2019_train"),
    "classes": detectron2.data.MetadataCatalog.get("ytvis_2019_train").thing_classes,
    "dir": dir(mask2former),
    "before": names,
    "after": catalog.list(),
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict:
    """What importing the package did in a fresh process."""
    found = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(found.stdout.splitlines()[-1])


def test_importing_loads_no_package_that_detectron2_does_not(imported):
    assert set(imported["packages"]) - sys.stdlib_module_names == {"mask2former"}


def test_importing_leaves_training_and_evaluation_for_later(imported):
    parts = {".".join(name.split(".")[:2]) for name in imported["modules"]}
    assert "mask2former.modeling" in parts
    assert not parts & {f"mask2former.{p}" for p in ("engine", "evaluation", "model_zoo")}


def test_importing_is_silent():
    command = [sys.executable, "-W", "default", "-c", "import mask2former"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "" and "torch.jit" not in found.stderr


def test_a_data_set_that_is_there_already_stays(imported):
    assert imported["data"] == ["mine"]
    assert imported["classes"] == ["mine"]
    assert {"ade20k_panoptic_val", "shapes_train_panoptic"} <= set(imported["before"])
    assert "ytvis_2021_val" not in imported["before"]  # those of videos wait to be asked for


def test_reloading_changes_nothing(imported):
    assert imported["after"] == imported["before"]


def test_names_are_listed_before_they_are_loaded(imported):
    assert {*PUBLISHED, "Predictor", "load_config", "model_zoo"} <= set(imported["dir"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_name_is_exported(name):
    assert getattr(mask2former, name).__name__ == name
    assert name in mask2former.__all__


def test_every_exported_name_can_be_had():
    for name in mask2former.__all__:
        assert getattr(mask2former, name) is not None
    assert mask2former.model_zoo is importlib.import_module("mask2former.model_zoo")


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'mask2former' has no attribute 'Mask3Former'"):
        _ = mask2former.Mask3Former


@pytest.fixture
def clips():
    """The name of a dataset of two videos, one of them with nothing but a crowd."""
    name = "package_test_clips"
    track = {"category_id": 0, "segmentations": [None], "iscrowd": 0}
    DatasetCatalog.register(
        name,
        lambda: [
            {"video_id": 1, "file_names": ["a"], "annotations": [track]},
            {"video_id": 2, "file_names": ["b"], "annotations": [track | {"iscrowd": 1}]},
        ],
    )
    MetadataCatalog.get(name).thing_classes = ["thing"]
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_loaders_of_the_video_package_take_clips(clips):
    cfg = get_config()
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 1
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    records = mask2former.get_detection_dataset_dicts(clips, filter_empty=True)
    assert [record["video_id"] for record in records] == [1]
    train = mask2former.build_detection_train_loader(cfg, mapper=dict, dataset=records)
    assert [x["video_id"] for x in next(iter(train))] == [1]
    test = mask2former.build_detection_test_loader(cfg, clips, mapper=dict)
    assert [x["video_id"] for batch in test for x in batch] == [1, 2]


def test_without_detectron2_the_import_says_how_to_get_it():
    code = "import sys; sys.modules['detectron2'] = None; import mask2former"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1
    assert last.startswith("ImportError: mask2former needs detectron2: run `python tools/install_")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    """The paths inside a wheel that is built from a copy of this checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, source)
    for name in ("configs", "mask2former", "mask2former_video"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--wheel-dir", str(source / "out")]
    subprocess.run([*command, *options, str(source)], check=True)
    (wheel,) = (source / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def paths_below(folder: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def test_wheel_holds_every_module_config_and_table(wheel_names):
    package = {
        f"{name}/{path}"
        for name in ("mask2former", "mask2former_video")
        for path in paths_below(ROOT / name, "*.py")
    }
    tables = {f"mask2former/{path}" for path in paths_below(ROOT / "mask2former", "*.json")}
    configs = {f"mask2former/_configs/{path}" for path in paths_below(ROOT / "configs", "*.yaml")}
    assert configs and tables
    assert (package | tables | configs) - wheel_names == set()


def test_wheel_holds_nothing_else(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "mask2former",
        "mask2former_video",
    }
