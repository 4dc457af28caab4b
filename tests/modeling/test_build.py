"""Building by name: agreement with detectron2, errors with their message."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mask2former.config import get_config
from mask2former.modeling.build import build_model


class TinyModelForBuild(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        cfg.SEED = 1234  # models may do so
        self.device_name = cfg.MODEL.DEVICE
        self.weight = nn.Parameter(torch.zeros(3))


if "TinyModelForBuild" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(TinyModelForBuild)


def test_builds_what_the_config_names_and_leaves_the_config_alone():
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = "TinyModelForBuild"
    cfg.MODEL.DEVICE = "cpu"
    before = cfg.clone()
    model = build_model(cfg)
    assert isinstance(model, TinyModelForBuild)
    assert model.training
    assert cfg == before


def test_a_frozen_config_is_taken_too():
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = "TinyModelForBuild"
    cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    with pytest.raises(AttributeError, match="immutable"):  # by the model that changes it
        build_model(cfg)


def test_cuda_means_the_cpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = "TinyModelForBuild"
    cfg.MODEL.DEVICE = "cuda"
    model = build_model(cfg)
    assert model.device_name == "cpu"
    assert model.weight.device.type == "cpu"
    assert cfg.MODEL.DEVICE == "cuda"


@pytest.mark.parametrize(
    ("key", "wrong", "nearest"),
    [
        ("MODEL.META_ARCHITECTURE", "Maskformer", "MaskFormer"),
        ("MODEL.BACKBONE.NAME", "build_resnet_backbon", "build_resnet_backbone"),
        ("MODEL.SEM_SEG_HEAD.NAME", "MaskFormerHeads", "MaskFormerHead"),
        (
            "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME",
            "MSDeformAttnDecoder",
            "MSDeformAttnPixelDecoder",
        ),
        (
            "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME",
            "MultiScaleMaskedDecoder",
            "MultiScaleMaskedTransformerDecoder",
        ),
    ],
)
def test_unknown_names_are_listed_with_those_there_are(key: str, wrong: str, nearest: str):
    cfg = get_config()
    cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME = "MSDeformAttnPixelDecoder"
    cfg.merge_from_list([key, wrong])
    with pytest.raises(ValueError, match=f"{key} is '{wrong}', which is not registered") as info:
        build_model(cfg)
    assert f"nearest: {nearest};" in str(info.value)
    listed = str(info.value).split("there are: ")[1].split(".")[0].split(", ")
    assert nearest in listed
    assert listed == sorted(listed)


def test_a_name_like_nothing_is_listed_too():
    cfg = get_config()
    cfg.MODEL.BACKBONE.NAME = "???"
    with pytest.raises(ValueError, match=r"'\?\?\?', which is not registered; there are: \w"):
        build_model(cfg)


def test_a_config_of_plain_detectron2_lacks_some_keys():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "TinyModelForBuild"
    cfg.MODEL.DEVICE = "cpu"
    assert isinstance(build_model(cfg), TinyModelForBuild)
