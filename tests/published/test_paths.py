"""The published import paths, name by name from the table, and what the hook must leave alone."""

import importlib
import importlib.util
import inspect
import pickle
import pkgutil
import pydoc
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import mask2former
import mask2former_video
from mask2former.published import import_hook
from mask2former.published.paths import published_modules

ROOT = Path(__file__).resolve().parents[2]
MODULES = published_modules()
NAMES = [(path, name, ours) for path, m in MODULES.items() for name, ours in m.names.items()]
MISSING = [(path, name, say) for path, m in MODULES.items() for name, say in m.instead.items()]
VIDEO_EXPORTS = (
    *("add_maskformer2_video_config", "VideoMaskFormer", "YTVISDatasetMapper", "YTVISEvaluator"),
    *("build_detection_train_loader", "build_detection_test_loader", "get_detection_dataset_dicts"),
)
# What is called otherwise here, so that the published path leads to a class beside ours.
CALLED_AS_PUBLISHED = {
    "mask2former.modeling.transformer_decoder.mask2former_transformer_decoder": (
        "MultiScaleMaskedTransformerDecoder"
    ),
    "mask2former_video.modeling.transformer_decoder.video_mask2former_transformer_decoder": (
        "VideoMultiScaleMaskedTransformerDecoder"
    ),
}


def imported(path: str, name: str) -> object:
    found: dict[str, object] = {}
    exec(f"from {path} import {name}", found)
    return found[name]


@pytest.mark.parametrize(("path", "name", "ours"), NAMES)
def test_published_name(path, name, ours):
    value = imported(path, name)
    assert value is pkgutil.resolve_name(ours)
    assert getattr(sys.modules[path], name) is value
    assert name in dir(sys.modules[path])


@pytest.mark.parametrize(("path", "name", "advice"), MISSING)
def test_name_that_cannot_be_had(path, name, advice):
    message = f"{path} has no {name} here: use {advice}"
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
        imported(path, name)
    for named in re.findall(r"mask2former(?:\.\w+)+", advice):
        assert pkgutil.resolve_name(named) is not None
    assert name not in dir(sys.modules[path])


@pytest.mark.parametrize("path", MODULES)
def test_published_module(path):
    module = importlib.import_module(path)
    spec = importlib.util.find_spec(path)
    assert spec is not None and spec.name == module.__name__ == path
    parent, _, child = path.rpartition(".")
    assert getattr(sys.modules[parent], child) is module
    assert path in pydoc.render_doc(module)  # what help() prints
    assert inspect.getmembers(module)
    with pytest.raises(ImportError, match="cannot import name 'Mask3Former'"):
        imported(path, "Mask3Former")
    assert not hasattr(module, "Mask3Former") and not hasattr(module, "__wrapped__")


@pytest.mark.parametrize(("path", "name"), CALLED_AS_PUBLISHED.items())
def test_decoders_to_inherit_from_are_beside_those_of_the_registry(path, name):
    published, registered = imported(path, name), getattr(mask2former.modeling, name)
    assert hasattr(published, "forward_prediction_heads")
    assert mask2former.modeling.TRANSFORMER_DECODER_REGISTRY.get(name) is registered
    assert published is not registered


@pytest.mark.parametrize("name", VIDEO_EXPORTS)
def test_exports_of_the_video_package(name):
    assert getattr(mask2former_video, name) is getattr(mask2former, name)
    assert name in mask2former_video.__all__


def test_all_names_of_a_module_at_once():
    found: dict[str, object] = {}
    exec("from mask2former_video.config import *", found)
    assert found["add_maskformer2_video_config"] is mask2former.add_maskformer2_video_config


def test_in_a_fresh_process():
    """Importing the package makes none of the modules; they need nothing imported before."""
    code = """
import sys
from mask2former_video.modeling.matcher import VideoHungarianMatcher
names = sorted(n for n in sys.modules if n.startswith(('mask2former.published', 'mask2former.u')))
from mask2former.modeling.pixel_decoder.ops.modules import MSDeformAttn
import mask2former.maskformer_model as model
import mask2former.modeling.criterion
print([n.removeprefix('mask2former.published') for n in names])
print(VideoHungarianMatcher.__module__, MSDeformAttn.__module__, model.MaskFormer.__name__)
print(mask2former.modeling.criterion.dice_loss.__name__)
print('mask2former.modeling.matcher' in sys.modules)
"""
    command = [sys.executable, "-W", "error::ImportWarning", "-c", code]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ours = "mask2former.modeling.criterion.matcher mask2former.published.deform_attn MaskFormer"
    assert found.stdout.splitlines()[-4:] == [
        "['', '.import_hook', '.paths']",
        ours,
        "dice_loss",
        "False",
    ]


def test_pickles_of_published_paths():
    """A model that was saved whole names its classes by their published modules."""
    from mask2former.modeling.matcher import HungarianMatcher

    matcher = HungarianMatcher(1.0, 2.0, 3.0)
    data = pickle.dumps(matcher, protocol=0)
    ours = f"c{HungarianMatcher.__module__}\n".encode()
    assert ours in data
    saved = data.replace(ours, b"cmask2former.modeling.matcher\n")
    assert pickle.loads(saved).cost_mask == 2.0
    assert pickle.loads(data).cost_mask == 2.0


def test_somebodys_own_copy_is_left_alone(tmp_path, monkeypatch):
    """Of a package with a published name that lies elsewhere nothing is completed."""
    name = "mask2former_video.data_video"
    assert importlib.util.find_spec(name) is not None
    other = types.ModuleType("mask2former_video")
    other.__file__, other.__path__ = str(tmp_path / "mask2former_video/__init__.py"), []
    monkeypatch.setitem(sys.modules, "mask2former_video", other)
    monkeypatch.delitem(sys.modules, name, raising=False)
    assert importlib.util.find_spec(name) is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("mask2former.modeling.criterion", "dice_loss_jit"),
        ("mask2former.maskformer_model", "SetCriterion"),
    ],
)
def test_a_name_that_is_replaced_in_vain(path, name, monkeypatch, caplog):
    module = importlib.import_module(path)
    original = getattr(module, name)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, len)
        assert f"{path}.{name} is replaced, but nothing in this package calls it" in caplog.text
        caplog.clear()
    assert getattr(module, name) is original
    module.of_somebody = 1
    del module.of_somebody
    assert not caplog.records


def test_installing_again_changes_nothing():
    before = list(sys.meta_path)
    import_hook.install()
    assert sys.meta_path == before
    finders = [f for f in before if type(f).__module__ == import_hook.__name__]
    assert len(finders) == 1 and before[-1] is finders[0]


def test_examples_of_the_page_for_users_of_the_published_code():
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    found: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(block, found)
    assert {"MaskFormer", "dice_loss", "YTVISEvaluator", "CalibratedDecoder"} <= found.keys()
