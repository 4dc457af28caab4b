"""The timm backbone: agreement with timm's own models, every family, what is trained, errors."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn

from mask2former.config import add_maskformer2_config
from mask2former.modeling.backbone.timm import TimmBackbone
from tests.modeling.backbone.small import save

timm = pytest.importorskip("timm")

NAMES = ["res2", "res3", "res4", "res5"]


def hooked_features(model: nn.Module, modules: dict[str, str], images):
    """Outputs of inner modules of a whole timm classifier."""
    features = {}
    for name, path in modules.items():
        module = model.get_submodule(path)
        module.register_forward_hook(lambda _m, _a, out, name=name: features.update({name: out}))
    with torch.no_grad():
        model(images)
    return features


def test_features_are_those_of_the_whole_model(resnet, tmp_path):
    path = save(resnet.state_dict(), tmp_path / "w.pth")
    backbone = TimmBackbone("resnet10t", pretrained=path).eval()
    images = torch.randn(1, 3, 64, 96)
    want = hooked_features(resnet, {n: f"layer{i + 1}" for i, n in enumerate(NAMES)}, images)
    with torch.no_grad():
        got = backbone(images)
    assert list(got) == NAMES
    for name in NAMES:
        torch.testing.assert_close(got[name], want[name])
    shapes = backbone.output_shape()
    assert {n: (s.channels, s.stride) for n, s in shapes.items()} == {
        n: (got[n].shape[1], 64 // got[n].shape[2]) for n in NAMES
    }
    assert backbone.size_divisibility == 32


def test_channels_last_models_come_out_channels_first():
    torch.manual_seed(0)
    backbone = TimmBackbone("swin_tiny_patch4_window7_224", (0, 2)).eval()
    with torch.no_grad():
        out = backbone(torch.randn(1, 3, 64, 96))
    assert {n: tuple(x.shape) for n, x in out.items()} == {
        "res2": (1, 96, 16, 24),
        "res4": (1, 384, 4, 6),
    }


@pytest.mark.parametrize("bgr", [False, True])
def test_normalization_of_the_model_replaces_that_of_the_config(resnet, tmp_path, bgr):
    path = save(resnet.state_dict(), tmp_path / "w.pth")
    rgb = 255 * torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor([100.0, 110.0, 120.0]), torch.tensor([50.0, 60.0, 70.0])
    pixels = rgb.flip(1) if bgr else rgb
    images = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    backbone = TimmBackbone(
        "resnet10t", pretrained=path, normalized_with=(mean.tolist(), std.tolist()), bgr=bgr
    ).eval()
    own = backbone.model.pretrained_cfg
    want = rgb / 255 - torch.tensor(own["mean"]).view(3, 1, 1)
    want = want / torch.tensor(own["std"]).view(3, 1, 1)
    seen = []
    backbone.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    backbone(images)
    torch.testing.assert_close(seen[0], want, rtol=1e-4, atol=1e-4)
    assert not {"scale", "offset"} & set(backbone.state_dict())


def test_frozen_batch_norm_keeps_its_statistics_and_its_activation(resnet, tmp_path):
    path = save(resnet.state_dict(), tmp_path / "w.pth")
    images = 3 + torch.randn(4, 3, 32, 32)
    plain = TimmBackbone("tf_efficientnet_lite0").eval()
    torch.manual_seed(0)
    frozen = TimmBackbone("tf_efficientnet_lite0", freeze_bn=True)
    plain.load_state_dict(frozen.state_dict(), strict=False)
    before = {n: b.clone() for n, b in frozen.named_buffers()}
    got = frozen.train()(images)
    for name, value in plain(images).items():
        torch.testing.assert_close(got[name], value, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(b, before[n]) for n, b in frozen.named_buffers())
    assert not any("bn" in n for n, _ in frozen.named_parameters())
    trained = TimmBackbone("resnet10t", pretrained=path).train()
    mean = trained.model.bn1.running_mean.clone()
    trained(images)
    assert not torch.equal(trained.model.bn1.running_mean, mean)


def test_config_decides():
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_timm_backbone"
    cfg.MODEL.TIMM.NAME = "resnet10t"
    cfg.MODEL.TIMM.OUT_INDICES = [2, 4]
    cfg.MODEL.TIMM.FREEZE_BN = True
    backbone = build_backbone(cfg)
    assert sorted(backbone.output_shape()) == ["res3", "res5"]
    assert not backbone.renormalize and not list(backbone.model.bn1.parameters())
    cfg.MODEL.TIMM.NORMALIZE = "timm"
    backbone = build_backbone(cfg)
    assert backbone.renormalize and backbone.bgr  # detectron2's default format
    cfg.MODEL.TIMM.NORMALIZE = "imagenet"
    with pytest.raises(ValueError, match="NORMALIZE must be \"config\".*got 'imagenet'"):
        build_backbone(cfg)


@pytest.mark.parametrize(
    "name, indices, message",
    [
        ("resnet_18", (1, 2), "no model 'resnet_18'. The nearest names: resnet18"),
        ("resnet10t", (1, 2, 5), r"5 features, of strides \[2, 4, 8, 16, 32\].*got \[1, 2, 5\]"),
        ("resnet10t", (4, 4), r"different strides, all powers of 2, but they are \[32, 32\]"),
        (
            "test_vit",
            (0, 1),
            r"but they are \[16, 16\]; choose other indices, one only of a plain ViT",
        ),
        ("test_vit", (6,), r"has 6 features.*got \[6\]"),
        ("levit_128", (), "levit_128 takes images of one size only"),
        ("coat_lite_tiny", (), "coat_lite_tiny gives no feature maps"),
    ],
)
def test_models_and_features_that_do_not_exist(name, indices, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(name, indices)


def test_download_without_a_network_says_what_to_do(monkeypatch):
    create = timm.create_model

    def fail(*args, pretrained=False, **options):
        if pretrained:
            raise OSError("no network")
        return create(*args, **options)

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ValueError, match="resnet10t: no network Without a network, set MOD"):
        TimmBackbone("resnet10t", pretrained="timm")
