"""MaskFormer's decoder: what it returns, what it looks at, and every map it can be given."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from torch.testing import assert_close

from mask2former.config import add_maskformer2_config
from mask2former.modeling import MaskFormerHead, StandardTransformerDecoder


def decoder(cls=StandardTransformerDecoder, **options) -> StandardTransformerDecoder:
    torch.manual_seed(0)
    defaults = {
        "num_classes": 3,
        "hidden_dim": 8,
        "num_queries": 5,
        "nheads": 2,
        "dropout": 0.0,
        "dim_feedforward": 16,
        "enc_layers": 1,
        "dec_layers": 3,
        "pre_norm": False,
        "deep_supervision": True,
        "mask_dim": 4,
        "enforce_input_project": False,
    }
    return cls(6, **{**defaults, **options}).eval()


def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 6, 4, 6), torch.randn(2, 4, 16, 24)


def test_every_layer_but_the_last_is_an_auxiliary_output():
    x, mask_features = inputs()
    model = decoder()
    out = model(x, mask_features)
    assert out["pred_logits"].shape == (2, 5, 4)
    assert out["pred_masks"].shape == (2, 5, 16, 24)
    assert len(out["aux_outputs"]) == 2
    for aux in out["aux_outputs"]:
        assert {k: v.shape for k, v in aux.items()} == {
            "pred_logits": (2, 5, 4),
            "pred_masks": (2, 5, 16, 24),
        }
    # A decoder cut after two layers ends with what the whole one has as its second.
    model.transformer["decoder"].layers = model.transformer["decoder"].layers[:2]
    assert_close(model(x, mask_features)["pred_masks"], out["aux_outputs"][1]["pred_masks"])


@pytest.mark.parametrize("deep_supervision, wanted", [(False, True), (True, False)])
def test_auxiliary_outputs_can_be_left_out(deep_supervision, wanted):
    x, mask_features = inputs()
    out = decoder(deep_supervision=deep_supervision)(x, mask_features, aux_outputs=wanted)
    assert "aux_outputs" not in out
    assert_close(out["pred_masks"], decoder()(x, mask_features)["pred_masks"])


def test_masks_are_inner_products_with_the_mask_features():
    x, mask_features = inputs()
    model = decoder()
    units = torch.eye(4)[None].expand(2, -1, -1)[..., None]  # pixel i is the i-th unit vector
    embeddings = model(x, units)["pred_masks"][..., 0]  # (B, Q, mask_dim)
    want = torch.einsum("bqc,bchw->bqhw", embeddings, mask_features)
    assert_close(model(x, mask_features)["pred_masks"], want)


def test_without_mask_classification_there_are_masks_only():
    x, mask_features = inputs()
    torch.manual_seed(0)
    model = decoder(mask_classification=False)
    assert not any(n.startswith("class_embed") for n in model.state_dict())
    out = model(x, mask_features)
    assert set(out) == {"pred_masks", "aux_outputs"}
    assert set(out["aux_outputs"][0]) == {"pred_masks"}


@pytest.mark.parametrize("mask_size", [(4, 6), (16, 24), (8, 6)])
def test_padded_pixels_are_not_looked_at(mask_size):
    x, mask_features = inputs()
    model = decoder()
    mask = torch.zeros(2, *mask_size, dtype=torch.bool)
    mask[0, :, mask_size[1] // 2 :] = True  # the right half of the first image
    changed = x.clone()
    changed[0, ..., 3:] = 7
    a, b = (model(y, mask_features, mask)["pred_masks"] for y in (x, changed))
    assert_close(a, b)
    assert (model(changed, mask_features)["pred_masks"] - a).abs().max() > 1e-3
    assert_close(a[1], model(x, mask_features)["pred_masks"][1])


@pytest.mark.parametrize("options, projected", [({}, True), ({"hidden_dim": 6}, False)])
def test_maps_are_projected_where_widths_differ_or_if_enforced(options, projected):
    assert ("input_proj.weight" in decoder(**options).state_dict()) == projected
    forced = decoder(**options, enforce_input_project=True)
    assert "input_proj.weight" in forced.state_dict()


def config(source: str, pixel_decoder: str = "TransformerEncoderPixelDecoder"):
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    options = {
        "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": pixel_decoder,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
        "MODEL.SEM_SEG_HEAD.MASK_DIM": 12,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
        "MODEL.SEM_SEG_HEAD.NORM": "GN",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res3", "res5"],
        "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "StandardTransformerDecoder",
        "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": source,
        "MODEL.MASK_FORMER.HIDDEN_DIM": 16,
        "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 16,
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 4,
    }
    cfg.merge_from_list([x for item in options.items() for x in item])
    return cfg


SHAPES = {
    "res2": ShapeSpec(channels=3, stride=4),
    "res3": ShapeSpec(channels=5, stride=8),
    "res5": ShapeSpec(channels=7, stride=32),
}
CHANNELS = {"res3": 5, "res5": 7, "transformer_encoder": 32, "pixel_embedding": 12}


def backbone_features():
    return {
        n: torch.randn(2, s.channels, 64 // s.stride, 96 // s.stride) for n, s in SHAPES.items()
    }


@pytest.mark.parametrize("source", CHANNELS)
def test_every_map_can_be_looked_at(source):
    head = MaskFormerHead(config(source), SHAPES).eval()
    assert head.predictor.input_proj.in_channels == CHANNELS[source]
    out = head(backbone_features())
    assert out["pred_masks"].shape == (2, 4, 16, 24)
    assert len(out["aux_outputs"]) == 5
    assert "aux_outputs" not in head(backbone_features(), aux_outputs=False)


def test_maps_that_do_not_fit_are_refused_with_a_way_out():
    head = MaskFormerHead(config("multi_scale_pixel_decoder"), SHAPES)
    with pytest.raises(ValueError, match="takes one map.*TRANSFORMER_IN_FEATURE"):
        head(backbone_features())
    head = MaskFormerHead(config("transformer_encoder", "BasePixelDecoder"), SHAPES)
    with pytest.raises(ValueError, match="BasePixelDecoder has no transformer encoder"):
        head(backbone_features())
    with pytest.raises(ValueError, match="TRANSFORMER_IN_FEATURE is 'res9'.*res2"):
        MaskFormerHead(config("res9"), SHAPES)


def test_a_published_method_that_is_not_called_is_refused():
    class Own(StandardTransformerDecoder):
        def _set_aux_loss(self, *args):
            return []

    class Calls(Own):
        def forward(self, x, mask_features, mask=None):
            return self._set_aux_loss()

    with pytest.raises(TypeError, match="Own overrides _set_aux_loss, .* Override forward"):
        decoder(Own)
    assert decoder(Calls)(*inputs()) == []
    patched = decoder()
    patched._set_aux_loss = list
    with pytest.raises(TypeError, match="overrides _set_aux_loss"):
        patched(*inputs())
