"""Names, shapes and order of all published models' weights, against a table of them.

Checkpoints of others load only where these agree. Models are built without initial values: memory
that nobody writes to costs neither time nor room.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import mask2former  # noqa: F401, registers the models
from mask2former.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def tables(shared) -> dict:
    return json.loads((shared / "reference" / "state_dicts.json").read_text())


@dataclass
class Description:
    """What a checkpoint depends on in a model."""

    shapes: dict[str, list[int]]
    buffers: dict[str, str]  # types of those in the state dict
    other_buffers: set[str]
    versions: dict[str, int]


def describe(model: torch.nn.Module) -> Description:
    state = model.state_dict()
    types = {n: str(b.dtype).removeprefix("torch.") for n, b in model.named_buffers()}
    return Description(
        shapes={n: list(v.shape) for n, v in state.items()},
        buffers={n: t for n, t in types.items() if n in state},
        other_buffers=set(types) - set(state),
        versions={n: m["version"] for n, m in state._metadata.items()},
    )


@pytest.fixture(scope="module")
def build():
    """Describe the model of a config; configs of the same architecture are built once."""
    descriptions = {}

    def build(config: str, overrides=()) -> Description:
        cfg = load_config(CONFIGS / config, ["MODEL.DEVICE", "cpu", *overrides])
        cfg.MODEL.WEIGHTS = ""
        architecture = cfg.MODEL.clone()
        architecture.MASK_FORMER.pop("TEST")
        key = architecture.dump()
        if key not in descriptions:
            descriptions[key] = describe(build_model(cfg))
        return descriptions[key]

    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in dir(torch.nn.init) if n.endswith("_") and n[0] != "_"]:
            patch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
        yield build


def differences(model: Description, table: dict[str, list[int]]) -> list[str]:
    """What a state dict lacks, has besides, or has in another shape or order."""
    state = model.shapes
    lines = [f"lacks {name}" for name in table if name not in state]
    lines += [f"has {name} besides" for name in state if name not in table]
    lines += [
        f"{name} is {state[name]}, not {shape}"
        for name, shape in table.items()
        if name in state and state[name] != shape
    ]
    if not lines and list(state) != list(table):
        lines = ["another order"]
    return lines


def test_differences_are_found():
    model = describe(torch.nn.Linear(2, 3))
    assert differences(model, {"weight": [3, 2], "bias": [3]}) == []
    assert differences(model, {"bias": [3], "weight": [3, 2]}) == ["another order"]
    assert differences(model, {"weight": [2, 3], "b": [3]}) == [
        "lacks b",
        "has bias besides",
        "weight is [3, 2], not [2, 3]",
    ]


def test_published_configs(tables, build):
    assert len(tables["configs"]) == 59
    found = {
        config: differences(build(config), tables["shapes"][table])
        for config, table in tables["configs"].items()
    }
    assert {config: lines[:5] for config, lines in found.items() if lines} == {}


def test_variants_of_the_architectures(tables, build):
    assert len(tables["variants"]) == 17
    found = {
        name: differences(
            build(variant["base"], variant["overrides"]), tables["shapes"][variant["unique"]]
        )
        for name, variant in tables["variants"].items()
    }
    assert {name: lines[:5] for name, lines in found.items() if lines} == {}


def test_buffers_and_module_versions(shared, build):
    """Which tensors are buffers, of which type, and the versions that loaders decide by."""
    text = (shared / "reference" / "state_dict_buffers.json").read_text()
    for want in json.loads(text).values():
        model = build(want["configs"][0])
        assert model.buffers == want["buffers"]
        assert set(want["non_persistent_buffers"]) <= model.other_buffers
        versions = {n: v for n, v in model.versions.items() if v != 1}
        assert versions == want["module_versions_ne_1"]
