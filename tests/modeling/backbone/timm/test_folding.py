"""Batch norms of timm models in the convolutions before them: the same features, fewer passes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mask2former.modeling.backbone.timm import TimmBackbone
from mask2former.modeling.backbone.timm_folding import fold_timm_norms

pytest.importorskip("timm")


def backbone(name: str = "resnet10t", **options) -> TimmBackbone:
    """A backbone whose norms are none of them the identity."""
    torch.manual_seed(0)
    made = TimmBackbone(name, **options)
    for part in norms(made):
        for values in (part.weight, part.running_var):
            values.data.uniform_(0.5, 1.5)
        for values in (part.bias, part.running_mean):
            values.data.normal_(0, 0.1)
    return made.eval()


def norms(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if hasattr(part, "running_var")]


def small(model: nn.Module) -> nn.Module:
    """A backbone of timm around a model of this test."""
    made = backbone()
    made.model = model.eval()
    return made


IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "regnety_002"])
@torch.no_grad()
def test_features_stay(name, frozen):
    plain = backbone(name, freeze_bn=frozen)
    folded = fold_timm_norms(copy.deepcopy(plain))
    assert len(norms(plain)) > 10
    assert norms(folded) == []
    for expected, found in zip(plain(IMAGES).values(), folded(IMAGES).values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_norms_that_are_updated_stay():
    model = backbone().train()
    count = len(norms(model))
    assert len(norms(fold_timm_norms(model))) == count > 0


class Block(nn.Module):
    """A convolution and a norm, in ways that do not let them be one."""

    def __init__(self, way: str):
        super().__init__()
        self.way, self.conv, self.norm = way, nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(0.5)
        if way == "hook":
            self.norm.register_forward_hook(lambda *args: None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.way == "values" and y.sum() == 0:
            return y
        if self.way == "residual":
            return self.norm(y) + y
        if self.way == "twice":
            return self.norm(self.conv(self.norm(y)))
        return self.norm(y)


@pytest.mark.parametrize("way", ["residual", "twice", "values", "hook"])
@torch.no_grad()
def test_what_is_not_one_map_stays(way):
    model = small(Block(way))
    expected = model.model(IMAGES)
    fold_timm_norms(model)
    torch.testing.assert_close(model.model(IMAGES), expected, rtol=0, atol=0)
    assert len(norms(model)) == 1


@torch.no_grad()
def test_a_plain_pair_is_one():
    model = small(Block(""))
    expected = model.model(IMAGES)
    fold_timm_norms(model)
    torch.testing.assert_close(model.model(IMAGES), expected)
    assert norms(model) == []
