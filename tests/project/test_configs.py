"""The shipped configs: agreement with the published ones; any yaml reader can read them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config

from mask2former.checkpoints.published import available
from mask2former.config import add_maskformer2_config, add_maskformer2_video_config, load_config

ROOT = Path(__file__).resolve().parents[2] / "configs"
ALL = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.yaml"))
FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
VIDEO = [name for name in ALL if name.startswith(("youtubevis", "shapes/video/"))]
OWN_DATA = ("shapes/", "custom/")
OWN_BACKBONES = ("dat", "eomt", "timm")
OWN_TASKS = ("mask-classification",)
PUBLISHED = [
    name
    for name in ALL
    if not name.startswith(OWN_DATA) and Path(name).parent.name not in OWN_BACKBONES + OWN_TASKS
]


def load_as_detectron2_does(name: str) -> CfgNode:
    """What scripts of other people do: image configs know nothing of the video keys."""
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    if name in VIDEO:
        add_maskformer2_video_config(cfg)
    cfg.merge_from_file(str(ROOT / name))
    return cfg


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; tuples as lists, as yaml knows no others."""
    leaves = {}
    for name, value in node.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = plain(value)
    return leaves


def plain(value: Any) -> Any:
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_the_published_files_are_all_there():
    bases = [name for name in PUBLISHED if "/Base-" in name]
    models = [name.removesuffix(".yaml") for name in PUBLISHED if "/Base-" not in name]
    assert len(bases) == 12
    assert len(models) == 59
    assert models == sorted(available())


@pytest.mark.parametrize("name", PUBLISHED)
def test_resolves_to_the_published_config(shared: Path, name: str):
    text = (shared / "reference" / "merged_cfgs" / name).read_text()
    published = flat(yaml.load(text, Loader=FAST_LOADER))
    ours = flat(load_as_detectron2_does(name))
    assert {key: ours.get(key) for key in published} == published
    assert {key: type(ours[key]) for key in published} == {k: type(v) for k, v in published.items()}


def test_no_published_file_is_missing(shared: Path):
    folder = shared / "reference" / "merged_cfgs"
    expected = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))
    assert len(expected) == 71
    assert expected == PUBLISHED


@pytest.mark.parametrize("name", ALL)
def test_any_reader_can_read_it(name: str, caplog: pytest.LogCaptureFixture):
    text = (ROOT / name).read_text()
    assert "!!" not in text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert isinstance(yaml.safe_load(text), dict)
    with caplog.at_level(logging.WARNING):
        theirs = load_as_detectron2_does(name)
    assert not caplog.records
    ours, theirs = flat(load_config(ROOT / name)), flat(theirs)
    assert {key: ours[key] for key in theirs} == theirs


@pytest.mark.parametrize("name", [name for name in ALL if "/Base-" not in name])
def test_names_a_model_and_data(name: str):
    cfg = load_config(ROOT / name)
    model = "VideoMaskFormer" if name in VIDEO else "MaskFormer"
    if "mask-classification" in name.replace("_", "-"):
        model = "MaskClassifier"
    assert model == cfg.MODEL.META_ARCHITECTURE
    assert cfg.DATASETS.TRAIN
    assert cfg.DATASETS.TEST
    assert cfg.VERSION == 2
