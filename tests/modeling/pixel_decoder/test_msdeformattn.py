"""The deformable pixel decoder: shapes for any number of levels, precision, batches, errors, and a
subclass that decodes by itself from the published attributes."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn
from torch.nn import functional as F

from mask2former.layers import PositionEmbeddingSine
from mask2former.modeling import MSDeformAttnPixelDecoder
from mask2former.ops.memory import OneUse

SHAPES = {f"res{i}": ShapeSpec(channels=4 * i, stride=2**i) for i in (5, 3, 2, 4)}  # out of order
SIZES = {"res2": (16, 20), "res3": (8, 10), "res4": (4, 5), "res5": (2, 3)}


class OwnDecoding(MSDeformAttnPixelDecoder):
    """Somebody's subclass, which knows no more than the published names and their order."""

    def forward_features(self, features):
        names = self.transformer_in_features[::-1]
        inputs = [features[name].float() for name in names]
        projected = [self.input_proj[i](x) for i, x in enumerate(inputs)]
        memory, shapes, starts = self.transformer(projected, [self.pe_layer(x) for x in inputs])
        out = []
        for i in range(self.transformer_num_feature_levels):
            height, width = shapes[i]
            level = memory[:, starts[i] : starts[i] + height * width]
            out.append(level.transpose(1, 2).reshape(len(level), -1, height, width))
        for i, name in enumerate(self.in_features[: self.num_fpn_levels][::-1]):
            x = self.lateral_convs[i](features[name].float())
            x = x + F.interpolate(out[-1], x.shape[-2:], mode="bilinear", align_corners=False)
            out.append(self.output_convs[i](x))
        maps = out[: self.maskformer_num_feature_levels]
        return self.mask_features(out[-1]), out[0], maps


def make_decoder(levels=("res3", "res4", "res5"), norm="GN", kind=MSDeformAttnPixelDecoder, **more):
    torch.manual_seed(0)
    return kind(
        SHAPES,
        transformer_dropout=0.0,
        transformer_nheads=2,
        transformer_enc_layers=1,
        conv_dim=32,
        mask_dim=6,
        norm=norm,
        transformer_in_features=list(levels),
        common_stride=4,
        **more,
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


def test_attributes_are_fine_to_coarse_as_published():
    decoder = make_decoder(("res5", "res3", "res4"))
    assert decoder.in_features == ["res2", "res3", "res4", "res5"]
    assert decoder.feature_strides == [4, 8, 16, 32]
    assert decoder.feature_channels == [8, 12, 16, 20]
    assert decoder.transformer_in_features == ["res3", "res4", "res5"]
    assert decoder.transformer_in_channels == [12, 16, 20]
    assert decoder.transformer_feature_strides == [8, 16, 32]
    assert [p[0].in_channels for p in decoder.input_proj] == [20, 16, 12]  # coarse to fine
    assert (decoder.transformer_num_feature_levels, decoder.num_fpn_levels) == (3, 1)
    assert (decoder.maskformer_num_feature_levels, decoder.common_stride) == (3, 4)
    assert decoder.mask_dim == 6
    one = make_decoder(("res5",))
    assert one.lateral_convs == [one.adapter_3, one.adapter_2, one.adapter_1]
    assert one.output_convs == [one.layer_3, one.layer_2, one.layer_1]


def test_width_of_the_feed_forward_network():
    def width(**more):
        return make_decoder(**more).transformer.encoder.layers[0].linear1.out_features

    assert (width(), width(transformer_dim_feedforward=24)) == (1024, 24)


@torch.no_grad()
@pytest.mark.parametrize("levels", [("res3", "res4", "res5"), ("res5",), ("res4", "res5")])
def test_subclass_that_decodes_by_itself(levels):
    expected = make_decoder(levels).forward_features(make_features())
    got = make_decoder(levels, kind=OwnDecoding).forward_features(make_features())
    torch.testing.assert_close(got, expected)


@torch.no_grad()
def test_parts_that_a_subclass_sets_take_effect():
    features, decoder = make_features(), make_decoder()
    before = decoder.forward_features(features)[0]
    decoder.lateral_convs = [nn.Conv2d(8, 32, 1)]
    own = decoder.forward_features(features)[0]
    assert not torch.allclose(before, own)
    decoder.lateral_convs = nn.ModuleList(decoder.lateral_convs)
    torch.testing.assert_close(decoder.forward_features(features)[0], own)
    decoder = make_decoder()
    decoder.adapter_1 = nn.Conv2d(8, 32, 1)
    assert not torch.allclose(before, decoder.forward_features(features)[0])
    decoder = make_decoder()
    decoder.transformer.encoder.layers[0].self_attn.attention_weights.weight.data.normal_()
    before = decoder.forward_features(features)[0]
    decoder.pe_layer = PositionEmbeddingSine(16, normalize=True, scale=1.0)
    assert not torch.allclose(before, decoder.forward_features(features)[0])


@torch.no_grad()
def test_positions_of_each_image():
    """As somebody's encoding gives them where it counts pixels without padding."""
    encoder = make_decoder().transformer
    encoder.encoder.layers[0].self_attn.attention_weights.weight.data.normal_()
    maps = [torch.randn(2, 32, h, h + 1) for h in (2, 3, 4)]
    positions = [torch.randn(2, 32, h, h + 1) for h in (2, 3, 4)]
    together, shapes, starts = encoder(maps, positions)
    assert shapes.tolist() == [[2, 3], [3, 4], [4, 5]]
    assert starts.tolist() == [0, 6, 18]
    alone = [encoder([m[i, None] for m in maps], [p[i, None] for p in positions]) for i in (0, 1)]
    torch.testing.assert_close(together, torch.cat([tokens for tokens, _, _ in alone]))
    with pytest.raises(ValueError, match='activation must be "relu", got gelu'):
        type(encoder)(activation="gelu")


@torch.no_grad()
def test_features_are_taken_out_where_they_are_handed_over_alone():
    decoder, features = make_decoder(), make_features()
    expected = decoder.forward_features(features)[0]
    assert set(features) == set(SIZES)
    given = OneUse(features)
    torch.testing.assert_close(decoder.forward_features(given)[0], expected, rtol=0, atol=0)
    assert not given
