"""Folders and checkpoints that lack weights, or whose config is of another model."""

import json

import pytest
import torch

from mask2former.checkpoints.bridges import convert, huggingface_defaults
from mask2former.checkpoints.loading import CheckpointMismatchError
from mask2former.checkpoints.storage.weights_io import load_weights, save_safetensors
from mask2former.config.loading import changed
from mask2former.errors import UserError

pytest.importorskip("transformers")
pytest.importorskip("timm")
from tests.checkpoints.bridges.small_eomt import small_eomt  # needs transformers


@pytest.fixture
def folder(tmp_path):
    small_eomt("eomt").save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def drop(folder, *ends):
    path = folder / "model.safetensors"
    weights = load_weights(path)[0]
    save_safetensors({n: t for n, t in weights.items() if not n.endswith(ends)}, path)


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", ["class_predictor.weight", "layers.3.norm1.bias"])
def test_weights_that_are_missing_do_not_stay_random(folder, name, tmp_path):
    drop(folder, name)
    with pytest.raises(CheckpointMismatchError, match="lacks .* which would stay random"):
        convert.huggingface_to_ours(folder, tmp_path / "ours.pth")
    assert not (tmp_path / "ours.pth").exists() and not (tmp_path / "ours.yaml").exists()


def test_what_only_training_needs_may_be_missing(folder, tmp_path):
    drop(folder, "criterion.empty_weight", "attn_mask_probs")
    convert.huggingface_to_ours(folder, tmp_path / "ours.pth")


def test_a_checkpoint_of_a_part_is_no_model_to_convert(folder, tmp_path):
    _, cfg = convert.huggingface_to_ours(folder, tmp_path / "ours.pth")
    weights = load_weights(tmp_path / "ours.pth")[0]
    part = {n: t for n, t in weights.items() if n.startswith("backbone.")}
    torch.save({"model": part}, tmp_path / "part.pth")
    with pytest.raises(CheckpointMismatchError, match=r"part\.pth lacks sem_seg.* and \d+ more"):
        convert.ours_to_huggingface(str(tmp_path / "part.pth"), tmp_path / "back", cfg)
    assert not (tmp_path / "back").exists()


def test_the_moving_average_goes_out_where_the_config_uses_it(folder, tmp_path):
    _, cfg = convert.huggingface_to_ours(folder, tmp_path / "ours.pth")
    weights = load_weights(tmp_path / "ours.pth")[0]
    average = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    content = {"model": weights, "ema": {"weights": average, "updates": 1}}
    torch.save(content, tmp_path / "run.pth")
    for enabled in (False, True):
        used = changed(cfg, "SOLVER.EMA.ENABLED", enabled)
        convert.ours_to_huggingface(str(tmp_path / "run.pth"), tmp_path / "out", used)
        written = load_weights(tmp_path / "out" / "model.safetensors")[0]
        assert (written["class_predictor.weight"].abs().max() == 0) == enabled


def test_a_config_of_another_model_is_told(folder, tmp_path):
    change(folder, id2label={str(i): f"class {i}" for i in range(5)})
    with pytest.raises(CheckpointMismatchError) as caught:
        convert.huggingface_to_ours(folder, tmp_path / "ours.pth")
    assert "class_embed.weight: (4, 32) in the file, (6, 32) here" in str(caught.value)
    assert str(caught.value).endswith("describes another model than the weights beside it are of.")
    change(folder, id2label={str(i): f"class {i}" for i in range(3)})
    _, cfg = convert.huggingface_to_ours(folder, tmp_path / "ours.pth")
    cfg.defrost()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    with pytest.raises(CheckpointMismatchError, match="Use the config that belongs") as caught:
        convert.ours_to_huggingface(str(tmp_path / "ours.pth"), tmp_path / "back", cfg)
    assert "WEIGHTS_MIN_MATCH" not in str(caught.value)  # which has no effect here


def test_sizes_that_no_memory_holds(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_defaults, "_MAX_SIZE", 10**12)  # else refused before
    change(folder, image_size=10**9)
    with pytest.raises(UserError, match="expected a model that fits into memory"):
        convert.huggingface_to_ours(folder, tmp_path / "ours.pth")
