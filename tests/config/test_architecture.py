"""Which of our models a config is for: by name, through subclasses, and of others."""

import pytest
from detectron2.modeling import META_ARCH_REGISTRY

from mask2former.config import get_config
from mask2former.config.architecture import meta_architecture
from mask2former.data import build_mapper
from mask2former.data.clips import ClipMapper
from mask2former.modeling import MaskFormer, VideoMaskFormer


@pytest.fixture
def registered(monkeypatch):
    objects = dict(META_ARCH_REGISTRY._obj_map)
    monkeypatch.setattr(META_ARCH_REGISTRY, "_obj_map", objects)
    objects["MyVideo"] = type("MyVideo", (type("Between", (VideoMaskFormer,), {}),), {})
    objects["MyImage"] = type("MyImage", (MaskFormer,), {})
    objects["a_function"] = lambda cfg: None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("MyVideo", "VideoMaskFormer"),
        ("MyImage", "MaskFormer"),
        ("VideoMaskFormer", "VideoMaskFormer"),
        ("MaskClassifier", "MaskClassifier"),
        ("SemanticSegmentor", "SemanticSegmentor"),
        ("a_function", "a_function"),
        ("unknown", "unknown"),
    ],
)
def test_subclasses_are_for_what_their_base_is_for(registered, name, found):
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = name
    assert meta_architecture(cfg) == found


def test_a_subclass_for_video_is_fed_with_clips(registered):
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = "MyVideo"
    assert isinstance(build_mapper(cfg), ClipMapper)
