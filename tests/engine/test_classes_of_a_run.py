"""Names of classes from a training on to all that is made of it, also when its data is gone."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

import train_net
from demo import demo
from mask2former.config import load_config
from mask2former.data.synthetic import write_shapes
from mask2former.predict import Demo, Predictor
from tests.engine.test_train_net import ROOT, SMALL

NAMES = ["disc", "square", "triangle", "star", "ring", "cross", "sky", "grass", "water", "wall"]
PARTS = {"image_root": "images/train", "annotations": "annotations/panoptic_train.json"}
PARTS |= {"panoptic_root": "panoptic_train"}


@pytest.fixture(autouse=True)
def _own_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    for catalog in (DatasetCatalog, MetadataCatalog):
        monkeypatch.setattr(catalog, "data", {})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_shapes(root, seed=5, train=4, val=1, size=64, workers=1)
    return root / "shapes"


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The output folder of a training on a copy of the data, which is gone afterwards."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(data, folder / "copy")
    with pytest.MonkeyPatch.context() as patch:
        for catalog in (DatasetCatalog, MetadataCatalog):
            patch.setattr(catalog, "data", {})
        run(folder, entry(folder / "copy"))
    shutil.rmtree(folder / "copy")
    return folder


def entry(
    data: Path, name: str = "mine", order: list[str] = NAMES, square: str = "square"
) -> dict[str, Any]:
    """A dataset whose category ids count from 1 in an order, with a name for the squares."""
    paths = {key: str(data / part) for key, part in PARTS.items()}
    content = json.loads(Path(paths["annotations"]).read_text())
    new_ids = {c["id"]: order.index(c["name"]) + 1 for c in content["categories"]}
    for category in content["categories"]:
        category["id"] = new_ids[category["id"]]
        category["name"] = square if category["name"] == "square" else category["name"]
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] = new_ids[segment["category_id"]]
    paths["annotations"] = str(data / f"{name}.json")
    Path(paths["annotations"]).write_text(json.dumps(content))
    return {"name": name, "task": "panoptic", **paths}


def run(output: Path, *entries: dict[str, Any], flags: tuple[str, ...] = (), **opts: Any) -> Any:
    config = str(ROOT / "configs/shapes/panoptic/maskformer2_lite0.yaml")
    return train_net.main(arguments(config, output, *entries, flags=flags, **opts))


def arguments(
    config: str, output: Path, *entries: dict, flags: tuple[str, ...] = (), **opts: Any
) -> argparse.Namespace:
    names = [e["name"] for e in entries]
    words = {"DATASETS.CUSTOM": list(entries), "DATASETS.TRAIN": (names[0],)}
    words |= {"DATASETS.TEST": (names[-1],), "OUTPUT_DIR": output, **opts}
    pairs = [str(word) for pair in words.items() for word in pair]
    return default_argument_parser().parse_args(["--config-file", config, *flags, *SMALL, *pairs])


def test_a_training_writes_the_classes(trained: Path, data: Path) -> None:
    categories = json.loads((data / PARTS["annotations"]).read_text())["categories"]
    expected = {
        "names": NAMES,
        "thing_ids": list(range(6)),
        "colors": [c["color"] for c in categories],
    }
    assert torch.load(trained / "model_final.pth", weights_only=True)["classes"] == expected
    node = load_config(trained / "config.yaml").MODEL.CLASSES
    assert {key.lower(): value for key, value in node.items()} == expected


@pytest.mark.parametrize("from_config", [True, False])
def test_predictions_need_no_data(trained: Path, from_config: bool, tmp_path: Path) -> None:
    """From config.yaml alone (the checkpoint loses its entry), or from the checkpoint alone."""
    cfg = load_config(trained / "config.yaml", ["MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0])
    weights = trained / "model_final.pth"
    if from_config:
        content = torch.load(weights, weights_only=True)
        weights = tmp_path / "bare.pth"
        torch.save({"model": content["model"]}, weights)
    else:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.CLASSES.NAMES = -1, []
        cfg.MODEL.CLASSES.THING_IDS = cfg.MODEL.CLASSES.COLORS = []
    predictor = Predictor(cfg, weights, array_format="RGB")
    assert predictor.metadata.stuff_classes == NAMES
    assert predictor.metadata.thing_classes == NAMES[:6]
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    prediction, _ = Demo(predictor)(image)
    segments = prediction["panoptic_seg"][1]
    assert segments and all(s["isthing"] == (s["category_id"] < 6) for s in segments)


def test_the_demo_needs_no_data(trained: Path, data: Path, tmp_path: Path) -> None:
    argv = ["--config-file", str(trained / "config.yaml"), "--input", str(data / "images/train")]
    argv += ["--output", str(tmp_path), "--save-json", "--opts"]
    argv += ["MODEL.WEIGHTS", str(trained / "model_final.pth")]
    assert demo.main([*argv, "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0"]) == 0
    categories = json.loads((tmp_path / "panoptic.json").read_text())["categories"]
    assert [c["name"] for c in categories] == NAMES
    assert [c["isthing"] for c in categories] == [1] * 6 + [0] * 4


def test_without_names_anywhere_the_number_is_asked_for(trained: Path, tmp_path: Path) -> None:
    cfg = load_config(trained / "config.yaml")
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.CLASSES.NAMES = -1, []
    with pytest.raises(ValueError, match="NUM_CLASSES is -1, and neither data nor checkpoint say"):
        Predictor(cfg, "")


def test_evaluation_is_by_the_names_of_the_checkpoint(trained: Path, data: Path, tmp_path) -> None:
    """The same scores with ids in another order, from a config that trains in that order too."""
    weights = {"MODEL.WEIGHTS": trained / "model_final.pth"}
    flags = ("--eval-only",)
    expected = run(tmp_path, entry(data), flags=flags, **weights)
    moved = run(tmp_path, entry(data, "moved", NAMES[::-1]), flags=flags, **weights)
    for task, scores in expected.items():
        assert moved[task] == pytest.approx(scores, nan_ok=True), task
    config = str(trained / "config.yaml")  # whose training data is gone
    words = arguments(config, tmp_path, entry(data, "moved", NAMES[::-1]), flags=flags, **weights)
    cut = words.opts.index("DATASETS.TRAIN")
    words.opts[cut : cut + 2] = []
    assert train_net.main(words)["sem_seg"] == pytest.approx(expected["sem_seg"], nan_ok=True)


def test_evaluation_on_other_classes_is_refused(trained: Path, data: Path, tmp_path: Path) -> None:
    weights = {"MODEL.WEIGHTS": trained / "model_final.pth"}
    message = "than the checkpoint: only in other: cube; only in the checkpoint: square"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, entry(data, "other", square="cube"), flags=("--eval-only",), **weights)
    more = entry(data, "more")
    content = json.loads(Path(more["annotations"]).read_text())
    content["categories"].append({"id": 11, "name": "cloud", "isthing": 0})
    Path(more["annotations"]).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="than the checkpoint: only in more: cloud"):
        run(tmp_path, more, flags=("--eval-only",), **weights)


def test_fine_tuning_and_resuming(trained: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(ValueError, match=r"at other positions .* set MODEL.CLASSES.NAMES to \['d"):
        run(tmp_path / "run", entry(data, "moved", NAMES[::-1]), flags=("--resume",))
    longer = {"MODEL.CLASSES.NAMES": NAMES, "SOLVER.MAX_ITER": 3}
    run(tmp_path / "run", entry(data, "moved", NAMES[::-1]), flags=("--resume",), **longer)
    content = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    assert content["iteration"] == 2 and content["classes"]["names"] == NAMES

    weights = {"MODEL.WEIGHTS": trained / "model_final.pth"}
    run(tmp_path / "new", entry(data, "other", square="cube"), **weights)
    content = torch.load(tmp_path / "new" / "model_final.pth", weights_only=True)
    assert content["classes"]["names"] == [*NAMES[:1], "cube", *NAMES[2:]]
    said = (tmp_path / "new" / "log.txt").read_text()
    assert said.count("only in the data: cube; only in the checkpoint: square") == 1
