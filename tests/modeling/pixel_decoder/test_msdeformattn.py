"""The deformable pixel decoder: shapes for any number of levels, precision, batches, errors."""

import pytest
import torch
from detectron2.layers import ShapeSpec

from mask2former.modeling import MSDeformAttnPixelDecoder

SHAPES = {f"res{i}": ShapeSpec(channels=4 * i, stride=2**i) for i in (5, 3, 2, 4)}  # out of order
SIZES = {"res2": (16, 20), "res3": (8, 10), "res4": (4, 5), "res5": (2, 3)}


def make_decoder(levels=("res3", "res4", "res5"), norm="GN"):
    torch.manual_seed(0)
    return MSDeformAttnPixelDecoder(
        SHAPES,
        transformer_dropout=0.0,
        transformer_nheads=2,
        transformer_enc_layers=1,
        conv_dim=32,
        mask_dim=6,
        norm=norm,
        transformer_in_features=list(levels),
        common_stride=4,
    ).eval()


def make_features(batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return {
        k: torch.randn(batch, SHAPES[k].channels, *s, generator=generator).to(dtype)
        for k, s in SIZES.items()
    }


@torch.no_grad()
@pytest.mark.parametrize(
    ("levels", "coarsest_three"),
    [
        (("res3", "res4", "res5"), ("res5", "res4", "res3")),
        (("res4", "res5"), ("res5", "res4", "res3")),
        (("res5",), ("res5", "res4", "res3")),
        (("res2", "res3", "res4", "res5"), ("res5", "res4", "res3")),
    ],
)
def test_shapes(levels, coarsest_three):
    mask_features, first, maps = make_decoder(levels).forward_features(make_features())
    assert mask_features.shape == (2, 6, *SIZES["res2"])
    assert first is maps[0]
    assert [m.shape for m in maps] == [(2, 32, *SIZES[k]) for k in coarsest_three]


@torch.no_grad()
def test_runs_in_float32_under_autocast():
    decoder, features = make_decoder(), make_features()
    expected = decoder.forward_features(features)[0]
    with torch.autocast("cpu", torch.bfloat16):
        got = decoder.forward_features(features)[0]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    half = decoder.forward_features(make_features(dtype=torch.bfloat16))[0]
    assert half.dtype == torch.float32


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    decoder, features = make_decoder(), make_features()
    together = decoder.forward_features(features)[0]
    alone = decoder.forward_features({k: v[1:] for k, v in features.items()})[0]
    torch.testing.assert_close(together[1:], alone)


def test_without_norm_convolutions_have_a_bias():
    names = dict(make_decoder(norm="").named_parameters())
    assert "adapter_1.bias" in names
    assert "adapter_1.norm.weight" not in names
    names = dict(make_decoder().named_parameters())
    assert "adapter_1.bias" not in names
    assert "adapter_1.norm.weight" in names


def test_level_embedding_tells_levels_apart():
    decoder, features = make_decoder(), make_features()
    before = decoder.forward_features(features)[1]
    decoder.transformer.encoder.layers[0].self_attn.attention_weights.weight.data.normal_()
    moved = decoder.forward_features(features)[1]
    decoder.transformer.level_embed.data.add_(1.0)
    assert not torch.allclose(before, moved)
    assert not torch.allclose(decoder.forward_features(features)[1], moved)


def test_feature_that_is_not_there():
    with pytest.raises(ValueError, match=r"features \['res6'\] among"):
        make_decoder(("res6",))
