"""Names of older and foreign layouts: each rule by itself, and that it leaves other names alone."""

import pytest

from mask2former.checkpoints.renames import CLASSIFIER, DERIVED, rename_to_fit

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
