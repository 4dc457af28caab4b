"""The masked decoder: invariants of queries, frames and attention masks; edges; errors."""

import pytest
import torch

from mask2former.modeling import (
    MultiScaleMaskedTransformerDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)
from mask2former.modeling.transformer_decoder.masked import _attention_mask

C, Q, K = 16, 5, 3
ARGS = {
    "num_classes": K,
    "hidden_dim": C,
    "num_queries": Q,
    "nheads": 2,
    "dim_feedforward": 32,
    "dec_layers": 4,
    "pre_norm": False,
    "mask_dim": 8,
    "enforce_input_project": False,
}


def make_decoder(cls=MultiScaleMaskedTransformerDecoder, **changes):
    torch.manual_seed(0)
    return cls(C, **(ARGS | changes)).eval()


def make_input(batch=2, seed=0, channels=C):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, channels, h, h + 1, generator=generator) for h in (2, 3, 5)]
    return maps, torch.randn(batch, 8, 9, 11, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("pre_norm", [False, True])
def test_shapes_and_number_of_predictions(pre_norm):
    out = make_decoder(pre_norm=pre_norm)(*make_input())
    for prediction in (out, *out["aux_outputs"]):
        assert prediction["pred_logits"].shape == (2, Q, K + 1)
        assert prediction["pred_masks"].shape == (2, Q, 9, 11)
    assert len(out["aux_outputs"]) == 4
    clip = make_decoder(VideoMultiScaleMaskedTransformerDecoder, num_frames=2)(*make_input())
    assert clip["pred_masks"].shape == (1, Q, 2, 9, 11)


@torch.no_grad()
def test_without_auxiliary_outputs_the_last_is_the_same():
    decoder, (maps, features) = make_decoder(), make_input()
    full, short = decoder(maps, features), decoder(maps, features, aux_outputs=False)
    assert "aux_outputs" not in short
    for key in ("pred_logits", "pred_masks"):
        torch.testing.assert_close(short[key], full[key], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_clip_of_one_frame_is_an_image():
    image = make_decoder()
    video = make_decoder(VideoMultiScaleMaskedTransformerDecoder, num_frames=2)
    video.load_state_dict(image.state_dict())
    maps, features = make_input(batch=1)
    a, b = image(maps, features), video(maps, features)
    torch.testing.assert_close(b["pred_logits"], a["pred_logits"])
    torch.testing.assert_close(b["pred_masks"][:, :, 0], a["pred_masks"])


@torch.no_grad()
def test_clips_of_a_training_batch_do_not_mix():
    decoder = make_decoder(VideoMultiScaleMaskedTransformerDecoder, num_frames=2)
    maps, features = make_input(batch=4)
    alone = decoder([m[2:] for m in maps], features[2:])  # in eval, two frames are one clip
    together = decoder.train()(maps, features)
    torch.testing.assert_close(together["pred_masks"][1], alone["pred_masks"][0])
    torch.testing.assert_close(together["pred_logits"][1], alone["pred_logits"][0])


@torch.no_grad()
def test_order_of_queries_follows():
    decoder, (maps, features) = make_decoder(), make_input()
    before = decoder(maps, features)
    order = torch.tensor([3, 1, 4, 0, 2])
    for embedding in (decoder.query_feat, decoder.query_embed):
        embedding.weight.data = embedding.weight.data[order]
    after = decoder(maps, features)
    torch.testing.assert_close(after["pred_masks"], before["pred_masks"][:, order])


@torch.no_grad()
def test_order_of_frames_is_seen_in_the_masks_only_through_time():
    """Without the time term, frames are a set: their masks follow their order."""
    decoder = make_decoder(VideoMultiScaleMaskedTransformerDecoder, num_frames=2)
    encode = decoder.position.forward
    decoder.position.forward = lambda h, w, frames, device: encode(h, w, device=device).repeat(
        frames, 1
    )
    maps, features = make_input(batch=3)
    order = torch.tensor([2, 0, 1])
    before = decoder(maps, features)["pred_masks"]
    after = decoder([m[order] for m in maps], features[order])["pred_masks"]
    torch.testing.assert_close(after, before[:, :, order])


def test_attention_mask_by_hand():
    """Logits below zero block, those that round to one half do not; an empty row sees all."""
    logits = torch.tensor([[-1.0, 2.0, -1e-9, 0.0], [-1.0, -2.0, -3.0, -4.0]])
    attend = _attention_mask(logits.view(1, 1, 2, 2, 2))
    assert attend.shape == (1, 1, 2, 4)
    assert attend[0, 0].tolist() == [[False, True, True, True], [True] * 4]


def test_attention_mask_of_a_clip_is_frame_major_and_empty_over_all_frames_only():
    logits = torch.full((1, 2, 2, 1, 2), -1.0)  # B, T, Q, h, w
    logits[0, 1, 0, 0, 1] = 1.0  # the first query sees the last pixel of the second frame
    attend = _attention_mask(logits)[0, 0]
    assert attend.tolist() == [[False, False, False, True], [True] * 4]


def test_projects_maps_of_another_width():
    decoder = MultiScaleMaskedTransformerDecoder(24, **ARGS)
    names = {n for n, _ in decoder.named_parameters() if n.startswith("input_proj")}
    assert names == {f"input_proj.{i}.{p}" for i in range(3) for p in ("weight", "bias")}
    assert not [n for n, _ in make_decoder().named_parameters() if n.startswith("input_proj")]
    maps, features = make_input(channels=24)
    assert decoder(maps, features)["pred_logits"].shape == (2, Q, K + 1)


def test_errors():
    maps, features = make_input()
    with pytest.raises(ValueError, match="expected 3 maps .*, got 2"):
        make_decoder()(maps[:2], features)
    with pytest.raises(ValueError, match="only supports mask classification"):
        MultiScaleMaskedTransformerDecoder(C, False, **ARGS)


def test_every_parameter_learns():
    decoder = make_decoder().train()
    out = decoder(*make_input())
    loss = sum(p["pred_logits"].sum() + p["pred_masks"].square().sum() for p in out["aux_outputs"])
    (loss + out["pred_logits"].sum() + out["pred_masks"].square().sum()).backward()
    assert [n for n, p in decoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["forward_prediction_heads", "_set_aux_loss"])
def test_published_methods_that_are_not_called_are_refused(name):
    own = type("Own", (MultiScaleMaskedTransformerDecoder,), {name: lambda self, *args: None})
    clip = type("Clip", (VideoMultiScaleMaskedTransformerDecoder,), {name: own.__dict__[name]})
    for cls, more in ((own, {}), (clip, {"num_frames": 2})):
        with pytest.raises(TypeError, match=f"{cls.__name__} overrides {name}.*inherit from"):
            make_decoder(cls, **more)


def test_who_has_a_forward_of_its_own_may_call_what_it_likes():
    class Own(MultiScaleMaskedTransformerDecoder):
        def forward(self, x, mask_features, mask=None):
            return self.forward_prediction_heads(mask_features)

        def forward_prediction_heads(self, mask_features):
            return mask_features.sum()

    class Passes(Own):
        def forward(self, x, mask_features, mask=None):
            return super(Own, self).forward(x, mask_features)

    maps, features = make_input()
    assert make_decoder(Own)(maps, features) == features.sum()
    with pytest.raises(TypeError, match="Passes overrides forward_prediction_heads"):
        make_decoder(Passes)(maps, features)
    patched = make_decoder()
    patched.forward_prediction_heads = lambda *args: None
    with pytest.raises(TypeError, match="overrides forward_prediction_heads"):
        patched(maps, features)
