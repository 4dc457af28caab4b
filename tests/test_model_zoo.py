"""Building models of the zoo: what is loaded from where."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mask2former import model_zoo
from mask2former.config import get_config

R50 = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep"


class TinyZooModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.device_name = cfg.MODEL.DEVICE


if "TinyZooModel" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(TinyZooModel)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Builds a tiny model in place of the published ones; returns the folder for weights."""

    def get_tiny_config(name: str, trained: bool = False):
        cfg = get_config()
        cfg.MODEL.META_ARCHITECTURE = "TinyZooModel"
        return cfg

    monkeypatch.setattr(model_zoo, "get_config", get_tiny_config)
    monkeypatch.setenv(model_zoo.WEIGHTS_DIR_VARIABLE, str(tmp_path))
    return tmp_path


def test_untrained_models_need_no_weights(tiny: Path):
    model = model_zoo.get(R50, device="cpu")
    assert model.weight.tolist() == [0, 0]
    assert model.training
    assert model.device_name == "cpu"


def test_trained_models_load_the_file_of_the_user(tiny: Path):
    torch.save({"model": {"weight": torch.ones(2)}}, tiny / "model_final_94dc52.pkl")
    model = model_zoo.get(f"{R50}.yaml", trained=True, device="cpu")
    assert model.weight.tolist() == [1, 1]


def test_the_weights_are_looked_for_before_the_model_is_built(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(name):
        raise FileNotFoundError("put it there")

    monkeypatch.setattr(model_zoo, "get_checkpoint_file", fail)
    monkeypatch.setattr(model_zoo, "build_model", lambda cfg: pytest.fail("built"))
    with pytest.raises(FileNotFoundError, match="put it there"):
        model_zoo.get(R50, trained=True)


def test_builds_a_published_model():
    model = model_zoo.get(R50, device="cpu").eval()
    assert model.sem_seg_head.num_classes == 133
    assert sum(p.numel() for p in model.parameters()) == 43_983_878
    assert model.device.type == "cpu"


def test_unknown_names(tiny: Path):
    with pytest.raises(ValueError, match=f"nearest: {R50}"):
        model_zoo.get(R50.replace("R50", "R51"), trained=True)
