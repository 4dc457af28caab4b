"""Folders of SAM's weights: the published layout, and others with their messages."""

import json
import sys
from pathlib import Path

import pytest
import torch

from mask2former.modeling.mask_classifier.sam_weights import load_sam
from tests.modeling.mask_classifier.small import save_tiny_sam


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def change_config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for name, value in changes.items():
        if isinstance(value, dict):
            config[name] |= value
        else:
            config[name] = value
    file.write_text(json.dumps(config))


def test_reads_what_was_saved(saved: Path):
    from safetensors.torch import load_file

    model = load_sam(saved)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    weights = load_file(saved / "model.safetensors")
    name = "vision_encoder.layers.1.attn.qkv.weight"
    assert torch.equal(model.state_dict()[name], weights[name])


def test_other_sizes_of_sam_are_read_too(tmp_path: Path):
    model = load_sam(save_tiny_sam(tmp_path, width=48, layers=3))
    assert model.config.vision_config.num_hidden_layers == 3


@pytest.mark.parametrize("kind", ["sam2", "sam_hq", "mask2former", None])
def test_another_kind_of_model(folder: Path, kind: str | None):
    change_config(folder, model_type=kind)
    with pytest.raises(ValueError, match=rf"expected a SAM model .* got {kind!r}"):
        load_sam(folder)


def test_config_of_one_variant_and_weights_of_another(folder: Path):
    change_config(folder, vision_config={"hidden_size": 48})
    with pytest.raises(ValueError, match="are both files of the same variant of SAM"):
        load_sam(folder)


def test_config_of_a_deeper_variant(folder: Path):
    change_config(folder, vision_config={"num_hidden_layers": 4})
    with pytest.raises(ValueError, match=r"lacks \d+ of the weights .*vision_encoder.layers.2"):
        load_sam(folder)


def test_damaged_weights(folder: Path):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="or are damaged"):
        load_sam(folder)


def test_pickled_weights_are_not_read(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="expected model.safetensors, .*Weights in pickles"):
        load_sam(folder)


def test_places_where_no_sam_is(folder: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="none has no config.json; expected a folder"):
        load_sam(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="model.safetensors has no config.json; expected"):
        load_sam(folder / "model.safetensors")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: expected a json file"):
        load_sam(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        load_sam(folder)


def test_without_transformers(saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'mask2former\[hf\]'"):
        load_sam(saved)
