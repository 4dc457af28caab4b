"""Backbones of other libraries: the features agree with torchvision's and timm's own."""

import pytest
import timm
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone

import mask2former  # noqa: F401 - registers the backbones
from mask2former.checkpoints.bridges.backbones import (
    detectron2_options,
    from_official,
    from_torchvision,
    swin_options,
)
from mask2former.checkpoints.bridges.check import compare_resnet, compare_swin
from mask2former.config import get_config


def randomised(model):
    """Statistics of norms too, which a new model has at 0 and 1."""
    torch.manual_seed(0)
    state = model.state_dict()
    for tensor in state.values():
        if tensor.dtype == torch.float32 and tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return {name: tensor.clone() for name, tensor in state.items()}


def test_torchvision_resnets():
    resnet = torchvision.models.resnet
    weights = randomised(resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2]))
    assert detectron2_options(weights)["DEPTH"] == 18
    differences = compare_resnet(
        from_torchvision(weights), weights, torch.randn(1, 3, 64, 96), "torchvision"
    )
    assert [d.name for d in differences] == ["res2", "res3", "res4", "res5"]
    assert all(d.largest < 1e-5 * d.scale and d.scale > 0.1 for d in differences)


@pytest.mark.slow
def test_torchvision_resnext_keeps_its_groups():
    weights = randomised(torchvision.models.resnext50_32x4d())
    options = detectron2_options(weights)
    assert (options["DEPTH"], options["NUM_GROUPS"], options["WIDTH_PER_GROUP"]) == (50, 32, 4)
    converted = from_torchvision(weights)
    for difference in compare_resnet(converted, weights, torch.randn(1, 3, 32, 64), "torchvision"):
        assert difference.largest < 1e-5 * difference.scale


def test_timm_resnets():
    weights = randomised(timm.create_model("resnet18"))
    converted = from_torchvision(weights)
    for difference in compare_resnet(converted, weights, torch.randn(1, 3, 32, 64), "timm"):
        assert difference.largest < 1e-5 * difference.scale


def test_a_wrong_conversion_shows():
    resnet = torchvision.models.resnet
    weights = randomised(resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2]))
    converted = from_torchvision(weights)
    converted["res3.0.conv1.norm.running_mean"] = converted["res3.0.conv1.norm.running_mean"] + 1
    images = torch.randn(1, 3, 32, 64)
    differences = {d.name: d for d in compare_resnet(converted, weights, images, "torchvision")}
    assert differences["res2"].largest == 0 and differences["res3"].largest > 1e-3


def test_resnets_that_detectron2_cannot_express_are_refused():
    with pytest.raises(ValueError, match=r"no counterpart for conv1\.0\.weight"):
        from_torchvision(timm.create_model("resnet26d").state_dict())
    with pytest.raises(ValueError, match=r"stages of \[1, 1, 1, 1\] blocks"):
        detectron2_options(timm.create_model("resnet10t").state_dict())
    with pytest.raises(ValueError, match="Expected a plain ResNet"):
        from_torchvision({"features.0.weight": torch.ones(1)})


def official_swin(**options):
    """What an official checkpoint holds, classifier and mask included."""
    cfg = get_config()
    cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    for key, value in options.items():
        cfg.MODEL.SWIN[key] = value
    weights = randomised(build_backbone(cfg, ShapeSpec(channels=3)))
    width = weights["norm3.weight"].numel()
    weights = {n: t for n, t in weights.items() if not n.startswith("norm")}
    return weights | {
        "norm.weight": torch.ones(width),
        "norm.bias": torch.ones(width),
        "head.weight": torch.ones(7, width),
        "head.bias": torch.ones(7),
        "layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16),
    }


def test_official_swin_agrees_with_timm():
    options = {
        "EMBED_DIM": 24,
        "DEPTHS": [2, 2, 2, 1],
        "NUM_HEADS": [2, 2, 4, 8],
        "WINDOW_SIZE": 4,
        "PATCH_SIZE": 4,
    }
    weights = official_swin(**options)
    assert swin_options(weights) == options
    converted = from_official(weights)
    assert set(weights) - set(converted) == {
        *("norm.weight", "norm.bias", "head.weight", "head.bias"),
        "layers.0.blocks.1.attn_mask",
    }
    differences = compare_swin(converted, weights, torch.randn(1, 3, 64, 96))
    assert [d.name for d in differences] == ["res2", "res3", "res4", "res5"]
    assert all(d.largest < 1e-5 * d.scale for d in differences)


def test_other_weights_are_no_swin():
    with pytest.raises(ValueError, match="Expected an official Swin checkpoint"):
        from_official({"layers.0.weight": torch.ones(1)})
