"""The head: where the decoder looks, heads and decoders of others, errors."""

import weakref

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from mask2former.modeling import MaskFormerHead
from mask2former.modeling.meta_arch.heads import (
    build_pixel_decoder,
    handed_over,
    takes_aux_outputs,
)
from mask2former.ops.memory import OneUse
from tests.modeling.small import tiny_model, tiny_video_model

from .test_replaced_methods import subclassed

SHAPES = {"res3": ShapeSpec(channels=2, stride=8), "res2": ShapeSpec(channels=2, stride=4)}


class PixelDecoder(nn.Module):
    """Gives its three outputs names instead of tensors."""

    def __init__(self, encoder_map="encoder"):
        super().__init__()
        self.encoder_map = encoder_map

    def forward_features(self, features):
        return "mask features", self.encoder_map, ["maps"]


class OldPredictor(nn.Module):
    """A decoder of somebody else's, which does not know our keyword."""

    def forward(self, x, mask_features, mask=None):
        return {"x": x, "mask_features": mask_features, "mask": mask}


class Predictor(OldPredictor):
    def forward(self, x, mask_features, mask=None, *, aux_outputs=True):
        return {**super().forward(x, mask_features, mask), "aux_outputs": aux_outputs}


def make_head(source="multi_scale_pixel_decoder", pixel_decoder=None, predictor=None):
    return MaskFormerHead(
        SHAPES,
        num_classes=3,
        pixel_decoder=pixel_decoder or PixelDecoder(),
        transformer_predictor=predictor or Predictor(),
        transformer_in_feature=source,
    )


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("multi_scale_pixel_decoder", ["maps"]),
        ("transformer_encoder", "encoder"),
        ("pixel_embedding", "mask features"),
        ("res3", "backbone"),
    ],
)
def test_where_the_decoder_looks(source, seen):
    out = make_head(source)({"res3": "backbone"})
    assert out["x"] == seen
    assert out["mask_features"] == "mask features"
    assert out["aux_outputs"] is True


def test_auxiliary_outputs_can_be_turned_off_where_the_decoder_can():
    assert make_head()({}, aux_outputs=False)["aux_outputs"] is False
    assert "aux_outputs" not in make_head(predictor=OldPredictor())({}, aux_outputs=False)


def test_attributes_of_the_published_head():
    head = make_head()
    assert head.in_features == ["res2", "res3"]
    assert (head.common_stride, head.num_classes, head._version) == (4, 3, 2)


def test_no_encoder_map():
    head = make_head("transformer_encoder", PixelDecoder(encoder_map=None))
    with pytest.raises(ValueError, match="PixelDecoder has no transformer encoder"):
        head({})


def test_pixel_decoder_without_forward_features():
    from detectron2.config import get_cfg
    from detectron2.modeling import SEM_SEG_HEADS_REGISTRY

    class NoPixelDecoder(nn.Module):
        def __init__(self, cfg, input_shape):
            super().__init__()

    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME = "NoPixelDecoder"
    SEM_SEG_HEADS_REGISTRY.register(NoPixelDecoder)
    try:
        with pytest.raises(ValueError, match="NoPixelDecoder is no pixel decoder"):
            build_pixel_decoder(cfg, SHAPES)
    finally:
        del SEM_SEG_HEADS_REGISTRY._obj_map["NoPixelDecoder"]


def test_mask_is_passed_on():
    mask = torch.zeros(1)
    assert make_head()({}, mask)["mask"] is mask


def test_heads_of_others_may_not_know_our_keyword():
    class Other(nn.Module):
        def forward(self, x, mask_features, mask=None):
            return {}

    class Ours(Other):
        def forward(self, x, mask_features, mask=None, *, aux_outputs=True):
            return {}

    class TakesAll(nn.Module):
        def forward(self, x, **kwargs):
            return {}

    assert not takes_aux_outputs(Other())
    assert takes_aux_outputs(Ours()) and takes_aux_outputs(TakesAll())


def test_layers_of_a_subclass_are_called():
    """With the published signature, which lacks our keyword."""

    class Own(MaskFormerHead):
        def layers(self, features, mask=None):
            return {"own": super().layers(features, mask)}

    head = make_head()
    head.__class__ = Own
    for wanted in (True, False):
        assert head({}, "a mask", aux_outputs=wanted)["own"]["mask"] == "a mask"


@pytest.mark.parametrize("outputs", [torch.zeros(1), (1, 2)])
def test_pixel_decoders_return_three_values(outputs):
    decoder = PixelDecoder()
    decoder.forward_features = lambda features: outputs
    with pytest.raises(ValueError, match="PixelDecoder.forward_features: expected mask features"):
        make_head(pixel_decoder=decoder)({})


def test_lists_of_three_values_are_welcome():
    decoder = PixelDecoder()
    decoder.forward_features = lambda features: ["fine", None, ["maps"]]
    assert make_head(pixel_decoder=decoder)({})["mask_features"] == "fine"


@pytest.mark.parametrize("video", [False, True])
def test_decoders_are_checked_by_their_class(video):
    """Subclasses are checked too, built without a config; but not those with their own forward."""
    model, other = tiny_model(), tiny_video_model()
    if video:
        model, other = other, model
    head = other.sem_seg_head
    head.predictor = subclassed(head.predictor)

    def build(cls):
        same = ("backbone", "criterion", "size_divisibility", "num_queries")
        arguments = {name: getattr(model, name) for name in same}
        arguments |= {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3, "sem_seg_head": head}
        more = ("num_frames", "clip_label") if video else (
            *("object_mask_threshold", "overlap_threshold", "semantic_on", "panoptic_on"),
            *("instance_on", "sem_seg_postprocess_before_inference", "test_topk_per_image"),
        )  # fmt: skip
        return cls(**arguments, **{name: getattr(model, name) for name in more})

    mine = type("Mine", (type(model),), {})
    with pytest.raises(ValueError, match="META_ARCHITECTURE is Mine, but the decoder Own is for"):
        build(mine)
    build(type("OwnForward", (mine,), {"forward": lambda self, batched_inputs: {}}))
    head.predictor.__class__ = type(
        "OwnForward", (type(head.predictor),), {"forward": lambda self, x, *args: {}}
    )
    build(mine)


def test_features_are_handed_over_to_heads_of_ours_that_need_them_once():
    class Own(MaskFormerHead):
        def layers(self, features, mask=None):
            return super().layers(features, mask)

    features = {"res3": torch.ones(1)}
    assert type(handed_over(features, make_head())) is OneUse
    own = make_head()
    own.__class__ = Own
    watched = make_head()
    watched.register_forward_pre_hook(lambda *args: None)
    for head in (own, watched, make_head("res3"), nn.Identity()):
        assert handed_over(features, head) is features


@torch.no_grad()
def test_features_are_gone_when_the_transformer_decoder_runs():
    model = tiny_model().eval()
    features, alive = [], []
    model.backbone.register_forward_hook(
        lambda m, args, out: features.extend(map(weakref.ref, out.values()))
    )
    model.sem_seg_head.predictor.register_forward_pre_hook(
        lambda *args: alive.append(sum(x() is not None for x in features))
    )
    model([{"image": torch.zeros(3, 64, 64)}])
    assert len(features) == 4
    assert alive == [0]
