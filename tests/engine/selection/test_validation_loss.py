"""The training loss of a test set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage

from mask2former.config import load_config
from mask2former.data.synthetic import write_shapes
from mask2former.engine import build_model
from mask2former.engine.selection.scores import scored
from mask2former.engine.selection.validation_loss import _TargetMapper, validation_loss
from mask2former.random_state import random_state
from tests.engine.resume.runs import CONFIG, SMALL, use_shapes
from tests.engine.stub import StubTrainer, make_cfg

NAME = "shapes_val_panoptic"


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The config of a tiny model, with four drawn images to test on."""
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root, seed=5, train=2, val=4, size=64, workers=1)
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    use_shapes(root)
    words = {**SMALL, "DATALOADER.NUM_WORKERS": 0, "TEST.LOSS": True, "OUTPUT_DIR": root / "out"}
    yield load_config(CONFIG, [str(word) for pair in words.items() for word in pair])
    for catalog, data in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        catalog.data.clear()
        catalog.data.update(data)


@pytest.fixture
def model(cfg: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(cfg)


def test_is_the_loss_of_the_whole_set_as_one_batch(cfg: Any, model: torch.nn.Module) -> None:
    """With points all over the images and without the most uncertain ones, both draw the same
    losses on average; the class loss needs no points but for matching."""
    from mask2former.data.datasets.registered import read_dataset

    model.criterion.num_points = model.criterion.matcher.num_points = 20_000
    model.criterion.importance_sample_ratio = 0.0
    mapper = _TargetMapper(cfg)
    batch = [mapper(record) for record in read_dataset(NAME).records]
    with torch.no_grad():
        expected = model.eval().losses(batch)
    got = validation_loss(cfg, model, NAME)
    assert set(got) == {"total", "ce", "mask", "dice"}
    assert got["total"] == pytest.approx(got["ce"] + got["mask"] + got["dice"])
    for kind in ("ce", "mask", "dice"):
        whole = sum(float(v) for name, v in expected.items() if name.startswith(f"loss_{kind}"))
        assert got[kind] == pytest.approx(whole, rel=0.03), kind


def test_is_the_same_every_time_and_leaves_no_trace(cfg: Any, model: torch.nn.Module) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    numbers = random_state()["torch"]
    first = validation_loss(cfg, model, NAME)
    assert torch.equal(random_state()["torch"], numbers) and model.training
    torch.manual_seed(77)
    assert validation_loss(cfg, model, NAME) == first
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_points_do_not_follow_the_iteration(cfg: Any, model: torch.nn.Module) -> None:
    model.point_seed = 3
    losses = []
    for iteration in (4, 9):
        with EventStorage(iteration):
            losses.append(validation_loss(cfg, model, NAME))
    assert losses[0] == losses[1]


def test_follows_the_weights(cfg: Any, model: torch.nn.Module) -> None:
    first = validation_loss(cfg, model, NAME)
    model.sem_seg_head.predictor.class_embed.bias.data[0] += 5.0
    assert validation_loss(cfg, model, NAME)["ce"] > first["ce"] + 0.5


def test_is_a_task_beside_the_others(cfg: Any, model: torch.nn.Module) -> None:
    results = scored(lambda cfg, model: {"sem_seg": {"mIoU": 1.0}}, cfg, model)
    assert results["sem_seg"] == {"mIoU": 1.0} and results["loss"]["total"] > 0


def test_images_are_those_of_evaluation(cfg: Any) -> None:
    from mask2former.data.datasets.registered import read_dataset

    record = read_dataset(NAME).records[0]
    first, second = (_TargetMapper(cfg)(record) for _ in range(2))
    assert first["image"].shape == (3, 64, 64)
    assert torch.equal(first["image"], second["image"])
    assert len(first["instances"]) and first["instances"].gt_masks.any()


def test_other_models_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="this StubModel is not; set it to False"):
        StubTrainer(make_cfg(tmp_path, "TEST.LOSS", True))
