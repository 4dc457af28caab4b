"""Asks checker, training and scoring about one dataset: all three have to agree."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.config import get_config
from mask2former.data import build_train_loader, register_custom
from mask2former.data.check import main as check
from mask2former.data.datasets import custom
from mask2former.engine.defaults import validate

SIDE, HEIGHT, WIDTH, COUNT = 20, 48, 64, 4


@dataclass(frozen=True)
class Taken:
    """Targets by image (None: it does not take part), score of perfect results, words of the
    checker."""

    says: tuple[str, ...] = ()
    targets: tuple[int | None, ...] = (2,) * COUNT
    score: float = 100.0


@dataclass(frozen=True)
class Refused:
    """Words of the error, which checker and training have alike."""

    words: str


@dataclass
class Answers:
    """What checker and training said.

    Attributes:
        code, report: of the checker.
        error: of training, before the first step.
        targets: by image, without an error.
        name: the dataset is registered under, without an error.
    """

    code: int
    report: str
    error: str = ""
    targets: dict[str, int] = field(default_factory=dict)
    name: str = ""


def square(i: int) -> tuple[slice, slice]:
    """Rows and columns of the object in image i."""
    return np.s_[6 : 6 + SIDE, 5 + 4 * i : 5 + 4 * i + SIDE]


def write_photos(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        photo = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(photo).save(folder / f"{i}.png")


def ask(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, **entry: Any) -> Answers:
    """Ask the checker, then training.

    Args:
        entry: of DATASETS.CUSTOM, and options as ``options``, key after value.
    """
    monkeypatch.setattr(custom, "_REGISTERED", {})
    options = entry.pop("options", [])
    cfg = _config(folder, {"name": "mine", **entry}, options)
    path = folder / "c.yaml"
    path.write_text(cfg.dump())
    capsys.readouterr()
    code = check([str(path), "--samples", "0"])
    answers = Answers(code, capsys.readouterr().out)
    DatasetCatalog.clear()
    MetadataCatalog.clear()
    monkeypatch.setattr(custom, "_REGISTERED", {})
    try:
        register_custom(cfg)
        validate(cfg)
        batch = next(iter(build_train_loader(cfg)))
    except (OSError, ValueError) as error:
        answers.error = str(error)
        return answers
    for mapped in batch:
        key = mapped.get("file_name") or mapped["file_names"][0]
        instances = mapped["instances"]
        first = instances[0] if isinstance(instances, list) else instances
        answers.targets[str(key)] = len(first)
    answers.name = "mine"
    return answers


def judge(answers: Answers, wanted: Taken | Refused, score: Callable[[], float]) -> None:
    """Compare the answers with what has to become of the dataset; ``score`` is asked last."""
    if isinstance(wanted, Refused):
        assert answers.error and wanted.words in answers.error, answers
        assert answers.code == 1 and "FAILS" in answers.report, answers.report
        assert wanted.words in answers.report
        return
    assert answers.error == "" and answers.code == 0, answers
    for words in wanted.says:
        assert words in answers.report, answers.report
    in_order = [count for _, count in sorted(answers.targets.items())]
    assert in_order == [count for count in wanted.targets if count is not None]
    assert score() == pytest.approx(wanted.score)


def _config(folder: Path, entry: dict[str, Any], options: list[Any]) -> CfgNode:
    cfg = get_config()
    cfg.DATASETS.CUSTOM = [entry]
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("mine",)
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, COUNT
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE = WIDTH, 1.0, 1.0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.ENABLED = (HEIGHT,), False
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = -1
    cfg.OUTPUT_DIR = str(folder / "out")
    cfg.merge_from_list(options)
    return cfg


def spoilt_json(path: Path, content: dict[str, Any], spoil: Callable[..., Any]) -> None:
    """Write json after a function changed it."""
    spoil(content)
    path.write_text(json.dumps(content))


def move(folder: Path, names: list[str]) -> None:
    """Move files into the subfolder "sub"."""
    (folder / "sub").mkdir()
    for name in names:
        shutil.move(folder / name, folder / "sub" / name)
