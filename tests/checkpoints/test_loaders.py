"""Everybody's loaders bring published checkpoints to the same model as our Checkpointer.

The checkpoints have the names and shapes of the published models, and random values.
"""

import copy
import json
import logging
import pickle
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from fvcore.common.checkpoint import Checkpointer as FvcoreCheckpointer
from torch import Tensor, nn

from mask2former.checkpoints.loading import load_into
from mask2former.config import load_config
from mask2former.modeling.build import build_model

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
R50 = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
SWIN = "ade20k/semantic-segmentation/swin/maskformer2_swin_tiny_bs16_160k.yaml"
VIDEO = "youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml"
Weights = dict[str, Tensor]


@pytest.fixture(scope="module", autouse=True)
def without_initial_values() -> Iterator[None]:
    """Random values for every model would take longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in dir(nn.init) if n.endswith("_") and n[0] != "_"]:
            patch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor.detach().fill_(0.5))
        yield


@pytest.fixture(scope="module")
def tables(shared: Path) -> dict:
    return json.loads((shared / "reference" / "state_dicts.json").read_text())


def config_of(name: str, weights: str | Path = "") -> CfgNode:
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights)]
    cfg = load_config(CONFIGS / name, [*opts, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 64])
    cfg.freeze()
    return cfg


def new_model(config: str) -> nn.Module:
    return build_model(config_of(config)).eval()


def published(tables: dict, config: str) -> Weights:
    """The weights of a published checkpoint; those of images call the queries ``static_query``."""
    new = new_model(config).state_dict()
    weights = {}
    for name, shape in tables["shapes"][tables["configs"][config]].items():
        value = new[name]
        if value.is_floating_point():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            value = torch.rand(shape, generator=generator)
            if len(shape) > 1 or name.endswith(("bias", "mean")):
                value = (value - 0.5) / (torch.Size(shape[1:]).numel() or 1) ** 0.5
        old_name = name if config == VIDEO else name.replace("query_feat", "static_query")
        weights[old_name] = value
    return weights


def outputs(model: nn.Module) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (2, 3, 64, 64), generator=generator)
    with torch.no_grad():
        out = model.predict(model.preprocess(image).tensor)
    assert all(value.isfinite().all() for value in out.values())
    return list(out.values())


def assert_same(model: nn.Module, wanted: Weights) -> None:
    found = model.state_dict()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def about_weights(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings that loaders gave."""
    names = ("fvcore", "detectron2.checkpoint", "mask2former.checkpoints")
    return [r.getMessage() for r in caplog.records if r.name.startswith(names)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that goes when the test is over: the checkpoints are large."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


# The loaders. Each takes a config, weights and a folder, and returns a new model with the weights.


def pickled(weights: Weights, folder: Path) -> Path:
    """Write a file as detectron2's model zoo has it."""
    path = folder / "model_final.pkl"
    arrays = {name: value.numpy() for name, value in weights.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Mask2Former"}))
    return path


def saved(weights: Weights, folder: Path) -> Path:
    path = folder / "model_final.pth"
    torch.save({"model": weights, "iteration": 9}, path)
    return path


def by_detectron2_pkl(config: str, weights: Weights, folder: Path) -> nn.Module:
    model = new_model(config)
    DetectionCheckpointer(model).load(str(pickled(weights, folder)))
    return model


def by_detectron2_pth(config: str, weights: Weights, folder: Path) -> nn.Module:
    model = new_model(config)
    rest = DetectionCheckpointer(model).load(str(saved(weights, folder)))
    assert rest["iteration"] == 9
    return model


def by_fvcore(config: str, weights: Weights, folder: Path) -> nn.Module:
    model = new_model(config)
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    FvcoreCheckpointer(model).load(str(saved(wrapped, folder)))
    return model


def by_default_predictor(config: str, weights: Weights, folder: Path) -> nn.Module:
    return DefaultPredictor(config_of(config, pickled(weights, folder))).model


def by_load_state_dict(config: str, weights: Weights, folder: Path) -> nn.Module:
    model = new_model(config)
    model.load_state_dict(torch.load(saved(weights, folder))["model"], strict=True)
    return model


def not_strictly(config: str, weights: Weights, folder: Path) -> nn.Module:
    model = new_model(config)
    result = model.load_state_dict(weights, strict=False)
    assert result.missing_keys == result.unexpected_keys == []
    return model


def by_safetensors(config: str, weights: Weights, folder: Path) -> nn.Module:
    path = folder / "model.safetensors"
    safetensors.torch.save_file(weights, path)
    model = new_model(config)
    safetensors.torch.load_model(model, path)
    return model


def inside_another_module(config: str, weights: Weights, folder: Path) -> nn.Module:
    outer = nn.ModuleDict({"segmenter": new_model(config)})
    outer.load_state_dict({f"segmenter.{name}": value for name, value in weights.items()})
    return outer["segmenter"]


def into_a_copy(config: str, weights: Weights, folder: Path) -> nn.Module:
    model = new_model(config)
    copied = copy.deepcopy(model)
    copied.load_state_dict(weights)
    assert (model.sem_seg_head.predictor.query_feat.weight == 0.5).all()
    return copied


Loader = Callable[[str, Weights, Path], nn.Module]
LOADERS: list[Loader] = [
    by_detectron2_pkl,
    by_detectron2_pth,
    by_fvcore,
    by_default_predictor,
    by_load_state_dict,
    not_strictly,
    by_safetensors,
    inside_another_module,
    into_a_copy,
]


# Swin and video models differ in their names only: the loaders most used have to do.
CASES = [(R50, load) for load in LOADERS] + [
    (config, load)
    for config in (SWIN, VIDEO)
    for load in (by_detectron2_pkl, by_default_predictor, by_load_state_dict)
]


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tables: dict) -> tuple[str, Weights, nn.Module]:
    """A config, a published checkpoint of it, and the model into which ours has loaded that."""
    weights = published(tables, request.param)
    model = new_model(request.param)
    report = load_into(model, weights)
    assert not (report.missing or report.unexpected or report.skipped or report.ignored)
    renamed = {n.replace("static_query", "query_feat"): value for n, value in weights.items()}
    assert_same(model, renamed)
    return request.param, weights, model


@pytest.mark.parametrize(("case", "load"), CASES, indirect=["case"])
def test_published_checkpoints(
    case: tuple[str, Weights, nn.Module],
    load: Loader,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config, weights, wanted = case
    with caplog.at_level(logging.WARNING):
        model = load(config, weights, folder)
    assert about_weights(caplog) == []
    assert_same(model, wanted.state_dict())
    for found, expected in zip(outputs(model), outputs(wanted), strict=True):
        assert torch.equal(found, expected)
