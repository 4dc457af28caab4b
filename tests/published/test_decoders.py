"""The masked decoders to inherit from: the numbers of ours, and subclasses as others write them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mask2former.config import get_config
from mask2former.layers import PositionEmbeddingSine
from mask2former.modeling import TRANSFORMER_DECODER_REGISTRY
from mask2former.modeling.meta_arch.heads import build_transformer_decoder
from mask2former.modeling.transformer_decoder import masked
from mask2former.published.decoders import (
    MultiScaleMaskedTransformerDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)
from tests.published.frame_decoder import FrameDecoder

C, Q, K, M, T = 16, 5, 3, 2, 2
ARGS = {
    "num_classes": K,
    "hidden_dim": C,
    "num_queries": Q,
    "nheads": M,
    "dim_feedforward": 32,
    "dec_layers": 4,
    "pre_norm": False,
    "mask_dim": 8,
    "enforce_input_project": False,
}
VIDEO = {**ARGS, "num_frames": T}
PAIRS = [
    (MultiScaleMaskedTransformerDecoder, masked.MultiScaleMaskedTransformerDecoder, ARGS),
    (
        VideoMultiScaleMaskedTransformerDecoder,
        masked.VideoMultiScaleMaskedTransformerDecoder,
        VIDEO,
    ),
]
each_kind = pytest.mark.parametrize(("published", "ours", "args"), PAIRS, ids=["image", "video"])


def make_input(batch=4, channels=C):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(batch, channels, h, h + 1, generator=generator) for h in (2, 3, 5)]
    return maps, torch.randn(batch, 8, 9, 11, generator=generator)


def flat(out: dict) -> list[torch.Tensor]:
    layers = [out, *out["aux_outputs"]]
    return [layer[key] for layer in layers for key in ("pred_logits", "pred_masks")]


def make_pair(published, ours, args, channels=C, **changes):
    torch.manual_seed(0)
    ours = ours(channels, **(args | changes))
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)
    decoder = published(in_channels=channels, mask_classification=True, **(args | changes))
    decoder.load_state_dict(ours.state_dict())
    return decoder, ours


@torch.no_grad()
@each_kind
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("changes", [{}, {"pre_norm": True}, {"channels": 24}, {"dec_layers": 1}])
def test_same_numbers_as_ours(published, ours, args, training, changes):
    decoder, ours = make_pair(published, ours, args, **changes)
    maps, features = make_input(channels=changes.get("channels", C))
    expected = flat(ours.train(training)(maps, features))
    got = flat(decoder.train(training)(maps, features))
    assert [x.shape for x in got] == [x.shape for x in expected]
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@each_kind
def test_same_gradients_as_ours(published, ours, args):
    decoder, ours = make_pair(published, ours, args)
    for model in (decoder, ours):
        sum(x.square().mean() for x in flat(model(*make_input()))).backward()
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for name, p in decoder.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-4)


@each_kind
def test_names_in_checkpoints_are_ours_in_the_same_order(published, ours, args):
    decoder, ours = make_pair(published, ours, args)
    assert list(decoder.state_dict()) == list(ours.state_dict())
    assert decoder._version == ours._version == 2


@each_kind
def test_attributes(published, ours, args):
    decoder = published(C, **args)
    assert (decoder.num_feature_levels, decoder.num_layers) == (3, 4)
    assert (decoder.num_heads, decoder.num_queries) == (M, Q)
    assert decoder.mask_classification is True
    assert decoder.query_feat.weight.shape == decoder.query_embed.weight.shape == (Q, C)
    assert decoder.level_embed.weight.shape == (3, C)
    x = torch.zeros(4, C, 3, 2) if published is PAIRS[0][0] else torch.zeros(2, 2, C, 3, 2)
    assert decoder.pe_layer(x, None).shape == x.shape


@torch.no_grad()
def test_prediction_heads_by_their_published_call():
    decoder = MultiScaleMaskedTransformerDecoder(C, **ARGS)
    _, features = make_input()
    logits, masks, blocked = decoder.forward_prediction_heads(
        torch.randn(Q, 4, C), features, attn_mask_target_size=(3, 4)
    )
    assert (logits.shape, masks.shape) == ((4, Q, K + 1), (4, Q, 9, 11))
    assert (blocked.shape, blocked.dtype) == ((4 * M, Q, 12), torch.bool)
    small = F.interpolate(masks, (3, 4), mode="bilinear", align_corners=False)
    expected = (small.sigmoid() < 0.5).flatten(2)
    for head in range(M):  # those of an image are neighbours
        assert torch.equal(blocked[head::M], expected)


@torch.no_grad()
def test_prediction_heads_of_clips():
    decoder = VideoMultiScaleMaskedTransformerDecoder(C, **VIDEO)
    _, features = make_input()
    logits, masks, blocked = decoder.forward_prediction_heads(
        torch.randn(Q, 2, C), features.view(2, T, 8, 9, 11), attn_mask_target_size=(3, 4)
    )
    assert (logits.shape, masks.shape) == ((2, Q, K + 1), (2, Q, T, 9, 11))
    assert blocked.shape == (2 * M, Q, T * 12)


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_decoder_of_frames_written_outside(training):
    """Frames by themselves are images: it agrees with our image decoder."""
    torch.manual_seed(0)
    decoder = FrameDecoder(C, **VIDEO, reid_dim=4).train(training)
    image = masked.MultiScaleMaskedTransformerDecoder(C, **ARGS)
    weights = {n: p for n, p in decoder.state_dict().items() if not n.startswith("reid")}
    image.load_state_dict(weights)
    expected, got = image(*make_input()), decoder(*make_input())
    clips = (2, 2) if training else (1, 4)
    assert got["pred_masks"].shape == (clips[0], Q, clips[1], 9, 11)
    assert got["pred_reid"].shape == (*clips, Q, 4)
    for a, b in zip([got, *got["aux_outputs"]], [expected, *expected["aux_outputs"]], strict=True):
        masks, logits = (
            a["pred_masks"].transpose(1, 2).flatten(0, 1),
            a["pred_logits"].flatten(0, 1),
        )
        torch.testing.assert_close(masks, b["pred_masks"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits, b["pred_logits"], rtol=1e-5, atol=1e-5)


def test_published_checkpoints_call_the_queries_otherwise():
    decoder = FrameDecoder(C, **VIDEO, reid_dim=4)
    state = {n: torch.randn_like(p) for n, p in decoder.state_dict().items() if "reid" not in n}
    queries = state.pop("query_feat.weight")
    left = decoder.load_state_dict(state | {"static_query.weight": queries}, strict=False)
    assert left.unexpected_keys == []
    assert {name.partition(".")[0] for name in left.missing_keys} == {"reid_embed"}
    assert torch.equal(decoder.query_feat.weight, queries)


@torch.no_grad()
def test_an_override_of_the_prediction_heads_takes_effect():
    class Blind(MultiScaleMaskedTransformerDecoder):
        calls = 0

        def forward_prediction_heads(self, output, mask_features, attn_mask_target_size):
            self.calls += 1
            logits, masks, blocked = super().forward_prediction_heads(
                output, mask_features, attn_mask_target_size
            )
            return logits + 100, masks * 0, torch.ones_like(blocked)

    torch.manual_seed(0)
    out = (decoder := Blind(C, **ARGS))(*make_input())
    assert decoder.calls == 5
    assert (out["pred_logits"] > 50).all() and (out["pred_masks"] == 0).all()
    assert len(out["aux_outputs"]) == 4


@torch.no_grad()
def test_layers_that_a_subclass_exchanges_are_called():
    decoder = MultiScaleMaskedTransformerDecoder(C, **ARGS).eval()
    before = decoder(*make_input())["pred_logits"]
    seen = []
    decoder.transformer_cross_attention_layers[1].multihead_attn.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    after = decoder(*make_input())["pred_logits"]
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    ((attended, weights),) = seen
    assert attended.shape == (Q, 4, C) and weights.shape == (4, Q, 12)
    decoder.pe_layer = PositionEmbeddingSine(C // 2)
    assert not torch.allclose(decoder(*make_input())["pred_logits"], before)


def test_built_from_a_config_under_a_name_of_its_own():
    cfg = get_config()
    cfg.MODEL.MASK_FORMER.HIDDEN_DIM, cfg.MODEL.MASK_FORMER.DEC_LAYERS = 16, 3
    name = "MultiScaleMaskedTransformerDecoder"
    assert TRANSFORMER_DECODER_REGISTRY.get(name) is masked.MultiScaleMaskedTransformerDecoder
    for cls in (MultiScaleMaskedTransformerDecoder, FrameDecoder):
        decoder = cls(cfg, 16, mask_classification=True)
        assert (decoder.num_layers, decoder.num_queries) == (2, 100)
    assert (decoder.num_frames, decoder.reid_embed.layers[-1].out_features) == (2, 4)


@pytest.fixture
def image_config():
    cfg = get_config()
    cfg.MODEL.MASK_FORMER.HIDDEN_DIM, cfg.MODEL.MASK_FORMER.DEC_LAYERS = 16, 2
    return cfg


def test_decoders_of_ours_count_as_the_published_class(image_config):
    ours = build_transformer_decoder(image_config, 16)
    assert type(ours) is masked.MultiScaleMaskedTransformerDecoder
    assert isinstance(ours, MultiScaleMaskedTransformerDecoder)
    assert not isinstance(ours, VideoMultiScaleMaskedTransformerDecoder | FrameDecoder)
    assert not isinstance(nn.Linear(1, 1), MultiScaleMaskedTransformerDecoder)


def test_a_patch_of_the_class_is_what_configs_build(image_config, monkeypatch, caplog):
    calls = []
    original = MultiScaleMaskedTransformerDecoder.forward_prediction_heads

    def patched(self, *args):
        calls.append(args)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(MultiScaleMaskedTransformerDecoder, "forward_prediction_heads", patched)
        decoder = build_transformer_decoder(image_config, 16)
        decoder([torch.zeros(1, 16, 2, 2)] * 3, torch.zeros(1, 256, 4, 4))
    assert len(calls) == 2
    assert "Models that are built from now on have mask2former.published.decoders." in caplog.text
    again = build_transformer_decoder(image_config, 16)
    assert type(again) is masked.MultiScaleMaskedTransformerDecoder


def test_a_new_attribute_of_the_class_is_a_patch_until_it_is_deleted():
    name = "VideoMultiScaleMaskedTransformerDecoder"
    VideoMultiScaleMaskedTransformerDecoder.temperature = 2
    assert TRANSFORMER_DECODER_REGISTRY.get(name) is VideoMultiScaleMaskedTransformerDecoder
    del VideoMultiScaleMaskedTransformerDecoder.temperature
    assert TRANSFORMER_DECODER_REGISTRY.get(name) is masked.VideoMultiScaleMaskedTransformerDecoder


def test_subclasses_are_patched_for_themselves(monkeypatch):
    names = dict(TRANSFORMER_DECODER_REGISTRY)
    monkeypatch.setattr(FrameDecoder, "forward", nn.Identity.forward)
    assert dict(TRANSFORMER_DECODER_REGISTRY) == names


def test_errors():
    decoder = MultiScaleMaskedTransformerDecoder(C, **ARGS)
    maps, features = make_input()
    with pytest.raises(ValueError, match="expected 3 maps .*, got 2"):
        decoder(maps[:2], features)
    with pytest.raises(ValueError, match="only supports mask classification"):
        MultiScaleMaskedTransformerDecoder(C, False, **ARGS)
    with pytest.raises(TypeError, match="num_querys"):
        MultiScaleMaskedTransformerDecoder(C, **ARGS, num_querys=3)
