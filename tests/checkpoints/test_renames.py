"""Names of older and foreign layouts: each rule by itself, that it leaves other names alone, and
that models apply them themselves when weights are loaded into them."""

import copy
import logging
import pickle

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from torch import nn

from mask2former.checkpoints.renames import (
    CLASSIFIER,
    DERIVED,
    RESNET_NAMES,
    rename_to_fit,
    rename_when_loading,
)
from mask2former.config import get_config
from tests.modeling.small import tiny_model, tiny_video_model

MODEL = {
    "backbone.stem.conv1.weight": (64, 3, 7, 7),
    "backbone.stem.conv1.norm.weight": (64,),
    "backbone.res2.0.conv1.weight": (64, 64, 1, 1),
    "backbone.res2.0.shortcut.norm.bias": (256,),
    "sem_seg_head.pixel_decoder.mask_features.weight": (8, 8, 1, 1),
    "sem_seg_head.pixel_decoder.layer_1.weight": (8, 8, 3, 3),
    "sem_seg_head.predictor.query_feat.weight": (5, 8),
    "sem_seg_head.predictor.query_embed.weight": (5, 8),
}
BACKBONE = {n.removeprefix("backbone."): s for n, s in MODEL.items() if n.startswith("backbone.")}


def renamed(shapes):
    names, notes = rename_to_fit(shapes, MODEL)
    return {old: new for old, new in names.items() if old != new}, notes


def test_names_that_fit_stay():
    assert renamed(MODEL) == ({}, [])


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model."])
def test_wrappers_are_taken_off(wrapper):
    changes, notes = renamed({wrapper + name: shape for name, shape in MODEL.items()})
    assert changes == {wrapper + name: name for name in MODEL}
    assert notes == [f"8 names: without the leading '{wrapper}' of a wrapper"]


def test_the_first_layout_of_the_head():
    old = {name.replace("pixel_decoder.", ""): shape for name, shape in MODEL.items()}
    changes, notes = renamed(old)
    assert changes == {
        "sem_seg_head.mask_features.weight": "sem_seg_head.pixel_decoder.mask_features.weight",
        "sem_seg_head.layer_1.weight": "sem_seg_head.pixel_decoder.layer_1.weight",
    }
    assert "2 names" in notes[0]


def test_a_new_layout_gets_no_second_pixel_decoder():
    beside = {**MODEL, "sem_seg_head.layer_1.weight": (8, 8, 3, 3)}
    assert renamed(beside) == ({}, [])


def test_heads_of_others_keep_their_names():
    model = {"sem_seg_head.conv.weight": (8, 8, 1, 1), **MODEL}
    names, _ = rename_to_fit({"sem_seg_head.conv.weight": (8, 8, 1, 1)}, model)
    assert names == {"sem_seg_head.conv.weight": "sem_seg_head.conv.weight"}


@pytest.mark.parametrize("queries", [5, 9])
def test_static_query_whatever_its_size(queries):
    old = {n.replace("query_feat", "static_query"): s for n, s in MODEL.items()}
    old["sem_seg_head.predictor.static_query.weight"] = (queries, 8)
    changes, _ = renamed(old)
    assert changes == {
        "sem_seg_head.predictor.static_query.weight": "sem_seg_head.predictor.query_feat.weight"
    }


def test_static_query_beside_query_feat_stays():
    assert renamed({**MODEL, "sem_seg_head.predictor.static_query.weight": (5, 8)}) == ({}, [])


def test_both_old_names_in_one_plain_dict():
    """The published code loses the pixel decoder here, as it goes by versions."""
    old = {n.replace("query_feat", "static_query"): s for n, s in MODEL.items()}
    names, _ = rename_to_fit(old, MODEL)
    assert set(names.values()) == set(MODEL)


@pytest.mark.parametrize("layout", ["first", "second"])
def test_a_head_alone(layout):
    """With both old names, and without the prefix of the head."""
    head = {n.removeprefix("sem_seg_head."): s for n, s in MODEL.items() if "head" in n}
    old = {n.replace("query_feat", "static_query"): shape for n, shape in head.items()}
    if layout == "first":
        old = {n.replace("pixel_decoder.", ""): shape for n, shape in old.items()}
    names, _ = rename_to_fit(old, MODEL)
    assert set(names.values()) == {f"sem_seg_head.{name}" for name in head}
    names, _ = rename_to_fit(old, head)
    assert set(names.values()) == set(head)


def test_a_backbone_gets_the_prefix_of_the_backbone():
    changes, notes = renamed({**BACKBONE, "stem.fc.weight": (1000, 2048), "norm.weight": (64,)})
    assert changes == {name: f"backbone.{name}" for name in BACKBONE}
    assert notes == ["4 names: put behind 'backbone.'"]


def test_caffe2_names():
    changes, _ = renamed(
        {
            "conv1_w": (64, 3, 7, 7),
            "res_conv1_bn_s": (64,),
            "res2_0_branch2a_w": (64, 64, 1, 1),
            "res2_0_branch1_bn_b": (256,),
            "fc1000_w": (1000, 2048),
        }
    )
    assert changes.pop("fc1000_w") == "fc1000.weight"
    assert set(changes.values()) == {f"backbone.{name}" for name in BACKBONE}
    assert changes["res2_0_branch1_bn_b"] == "backbone.res2.0.shortcut.norm.bias"


def test_torchvision_names():
    changes, _ = renamed(
        {
            "conv1.weight": (64, 3, 7, 7),
            "bn1.weight": (64,),
            "layer1.0.conv1.weight": (64, 64, 1, 1),
            "layer1.0.downsample.1.bias": (256,),
            "fc.weight": (1000, 2048),
        }
    )
    assert changes["layer1.0.downsample.1.bias"] == "backbone.res2.0.shortcut.norm.bias"
    assert set(changes.values()) - {"stem.fc.weight"} == {f"backbone.{n}" for n in BACKBONE}


def test_torchvision_names_stay_in_a_model_that_uses_them():
    model = {
        "backbone.body.conv1.weight": (64, 3, 7, 7),
        "backbone.body.bn1.weight": (64,),
        "backbone.body.layer1.0.conv1.weight": (64, 64, 1, 1),
    }
    names, _ = rename_to_fit({n.removeprefix("backbone.body."): s for n, s in model.items()}, model)
    assert set(names.values()) == set(model)


def test_which_names_do_not_matter():
    assert DERIVED.search("backbone.layers.0.blocks.1.attn_mask")
    assert DERIVED.search("backbone.res2.0.conv1.norm.num_batches_tracked")
    assert not DERIVED.search("backbone.res2.0.conv1.norm.running_var")
    for name in ("fc.weight", "head.bias", "stem.fc.weight", "norm.weight", "fc1000.bias"):
        assert CLASSIFIER.match(name), name
    for name in ("norm0.weight", "layers.0.norm.weight", "sem_seg_head.predictor.x", "header.w"):
        assert not CLASSIFIER.match(name), name


# Models rename by themselves, whoever loads


def old_names(weights):
    """Names of the published image checkpoints, in the first layout of the head."""
    return {
        name.replace("query_feat", "static_query").replace("pixel_decoder.", ""): value
        for name, value in weights.items()
    }


def changed(model):
    """The weights of a model, all a little larger, under their names."""
    return {name: value + 1 for name, value in model.state_dict().items()}


def assert_loaded(model, weights):
    found = model.state_dict()
    assert [name for name in weights if not torch.equal(found[name], weights[name])] == []


@pytest.mark.parametrize("make", [tiny_model, tiny_video_model])
def test_models_take_old_names(make, caplog):
    model = make()
    weights = changed(model)
    with caplog.at_level(logging.INFO):
        model.load_state_dict(old_names(weights), strict=True)
    assert_loaded(model, weights)
    (line,) = [r.getMessage() for r in caplog.records if "renamed" in r.getMessage()]
    assert line.startswith(f"{type(model).__name__} renamed weights: ")
    assert "1 names: static_query became query_feat" in line


@pytest.mark.parametrize("part", ["sem_seg_head", "sem_seg_head.predictor"])
def test_parts_take_old_names_in_models_of_others(part):
    part = copy.deepcopy(tiny_model().get_submodule(part))
    weights = changed(part)
    part.load_state_dict(old_names(weights), strict=True)
    assert_loaded(part, weights)
    outer = nn.ModuleDict({"mine": part})
    again = changed(part)
    outer.load_state_dict({f"mine.{n}": v for n, v in old_names(again).items()}, strict=True)
    assert_loaded(part, again)


def test_models_take_the_weights_of_a_part():
    model = tiny_model()
    weights = {n: v for n, v in changed(model).items() if n.startswith("sem_seg_head.")}
    old = {n.removeprefix("sem_seg_head."): v for n, v in old_names(weights).items()}
    assert model.load_state_dict(old, strict=False).unexpected_keys == []
    assert_loaded(model, weights)


def test_detectron2s_heuristics_and_old_names(tmp_path, caplog):
    """The file says that its names are to be matched by their ends."""
    model = tiny_model()
    weights = changed(model)
    path = tmp_path / "a.pkl"
    arrays = {name: value.numpy() for name, value in old_names(weights).items()}
    path.write_bytes(
        pickle.dumps({"model": arrays, "__author__": "me", "matching_heuristics": True})
    )
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(model).load(str(path))
    assert_loaded(model, weights)
    assert not caplog.records


def test_another_number_of_queries_is_left_out_with_a_warning(tmp_path, caplog):
    model = tiny_model()
    before = model.sem_seg_head.predictor.query_feat.weight.clone()
    weights = changed(model)
    more = torch.zeros(9, before.shape[1])
    torch.save(
        {"model": old_names(weights | {"sem_seg_head.predictor.query_feat.weight": more})},
        tmp_path / "a.pth",
    )
    DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))
    assert torch.equal(model.sem_seg_head.predictor.query_feat.weight, before)
    messages = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert messages[0] == (
        "sem_seg_head.predictor.static_query.weight is left out: it is (9, 32) in the checkpoint, "
        "and sem_seg_head.predictor.query_feat.weight, which it became, is (6, 32) here"
    )
    assert len(messages) == 2 and "query_feat" in messages[1]  # fvcore's, of what is missing
    with pytest.raises(RuntimeError, match=r"Missing key.*query_feat\.weight"):
        model.load_state_dict(torch.load(tmp_path / "a.pth")["model"])


def test_names_that_fit_are_never_touched(caplog):
    model = tiny_model()
    weights = changed(model) | {"sem_seg_head.predictor.static_query.weight": torch.zeros(1)}
    with caplog.at_level(logging.INFO):
        result = model.load_state_dict(weights, strict=False)
    assert result.unexpected_keys == ["sem_seg_head.predictor.static_query.weight"]
    assert_loaded(model, changed(tiny_model()))
    assert not caplog.records


def test_backbones_take_torchvisions_names():
    cfg = get_config()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2"]
    backbone = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    rename_when_loading(backbone)
    weights = changed(backbone)
    theirs, _ = RESNET_NAMES.to_theirs(weights)
    assert "layer1.0.downsample.1.running_var" in theirs
    backbone.load_state_dict(theirs, strict=True)
    assert_loaded(backbone, weights)


def test_models_that_rename_can_be_copied_and_pickled():
    """The copy looks at its own names, not at those of the original."""
    decoder = pickle.loads(pickle.dumps(copy.deepcopy(tiny_model().sem_seg_head.predictor)))
    weights = changed(decoder)
    decoder.load_state_dict(old_names(weights), strict=True)
    assert_loaded(decoder, weights)
