"""MaskFormer's pixel decoders: sums worked out by hand, the encoder's place, sizes."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from mask2former.modeling import BasePixelDecoder, TransformerEncoderPixelDecoder

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
ENCODER = {
    "transformer_dropout": 0.0,
    "transformer_nheads": 4,
    "transformer_dim_feedforward": 16,
    "transformer_enc_layers": 1,
    "transformer_pre_norm": False,
}


def shapes(channels: int) -> dict[str, ShapeSpec]:
    # Not in the order of strides: the decoder has to sort them.
    return {n: ShapeSpec(channels=channels, stride=s) for n, s in reversed(STRIDES.items())}


def features(channels: int, sizes) -> dict[str, torch.Tensor]:
    return {n: torch.rand(1, channels, *size) for n, size in zip(STRIDES, sizes)}


def pass_through(module: nn.Module) -> None:
    """Make every convolution copy its input."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.dirac_(conv.weight)
            nn.init.zeros_(conv.bias)


@pytest.mark.parametrize(
    "sizes", [[(8, 8), (4, 4), (2, 2), (1, 1)], [(9, 13), (5, 7), (3, 4), (2, 2)]]
)
def test_levels_are_summed_from_the_coarsest_to_the_finest(sizes):
    decoder = BasePixelDecoder(shapes(2), conv_dim=2, mask_dim=2, norm="")
    pass_through(decoder)
    x = features(2, sizes)
    want = [x["res5"]]
    for name in ("res4", "res3", "res2"):
        want.append(x[name] + F.interpolate(want[-1], x[name].shape[2:], mode="nearest"))
    mask_features, encoder_map, maps = decoder.forward_features(x)
    assert encoder_map is None
    assert [tuple(m.shape[2:]) for m in maps] == [sizes[3], sizes[2], sizes[1]]
    for got, expected in zip(maps, want):
        assert_close(got, expected)
    assert_close(mask_features, want[-1])


def test_sum_of_one_pixel_by_hand():
    decoder = BasePixelDecoder(
        {"a": ShapeSpec(channels=1, stride=4), "b": ShapeSpec(channels=1, stride=8)},
        conv_dim=1,
        mask_dim=1,
        norm="",
    )
    pass_through(decoder)
    coarse = torch.tensor([[[[1.0, -2.0]]]])  # the ReLU of layer_2 takes the -2
    fine = torch.tensor([[[[1.0, 2.0, 3.0, -4.0]] * 2]])  # 3 + 0; relu(-4 + 0)
    mask_features, _, maps = decoder.forward_features({"a": fine, "b": coarse})
    assert maps[0].tolist() == [[[[1.0, 0.0]]]]
    assert mask_features[0, 0].tolist() == [[2.0, 3.0, 3.0, 0.0]] * 2
    assert len(maps) == 2


@pytest.mark.parametrize(
    "norm, has_bias, has_norm", [("", True, False), (None, False, False), ("GN", False, True)]
)
def test_convolutions_have_a_bias_only_without_a_named_norm(norm, has_bias, has_norm):
    names = set(BasePixelDecoder(shapes(3), conv_dim=32, mask_dim=4, norm=norm).state_dict())
    for conv in ("adapter_1", "layer_1", "layer_4"):
        assert (f"{conv}.bias" in names) == has_bias
        assert (f"{conv}.norm.weight" in names) == has_norm
    assert "mask_features.bias" in names and "adapter_4.weight" not in names


def test_encoder_comes_before_the_pyramid():
    torch.manual_seed(0)
    decoder = TransformerEncoderPixelDecoder(
        shapes(3), conv_dim=32, mask_dim=4, norm="GN", **ENCODER
    )
    x = features(3, [(16, 24), (8, 12), (4, 6), (2, 3)])
    mask_features, encoder_map, maps = decoder.forward_features(x)
    assert mask_features.shape == (1, 4, 16, 24)
    assert encoder_map.shape == (1, 32, 2, 3)
    assert_close(maps[0], decoder.layer_4(encoder_map))
    # Attention is global, so a change in one corner reaches the other, and position counts.
    x["res5"] = x["res5"].clone()
    x["res5"][..., 0, 0] += 1
    changed = decoder.forward_features(x)[1]
    assert (changed - encoder_map)[..., 1, 2].abs().max() > 1e-5
    x["res5"] = torch.ones_like(x["res5"])
    uniform = decoder.forward_features(x)[1]
    assert uniform.flatten(2).std(-1).max() < 1e-5  # values carry no position
    x["res5"] = torch.cat([x["res5"][..., :2], 3 * x["res5"][..., 2:]], -1)
    varied = decoder.forward_features(x)[1]
    assert (varied[..., 0] - varied[..., 1]).abs().max() > 1e-4  # equal inputs, other places


def test_without_layers_the_encoder_only_projects():
    decoder = TransformerEncoderPixelDecoder(
        shapes(3), conv_dim=4, mask_dim=4, norm="", **{**ENCODER, "transformer_enc_layers": 0}
    )
    x = features(3, [(8, 8), (4, 4), (2, 2), (1, 1)])
    assert_close(decoder.forward_features(x)[1], decoder.input_proj(x["res5"]))


def test_convolutions_are_coarse_to_fine_and_may_be_exchanged():
    decoder = BasePixelDecoder(shapes(2), conv_dim=2, mask_dim=2, norm="")
    assert decoder.in_features == list(STRIDES)
    assert decoder.lateral_convs == [None, decoder.adapter_3, decoder.adapter_2, decoder.adapter_1]
    assert decoder.output_convs == [getattr(decoder, f"layer_{i}") for i in (4, 3, 2, 1)]
    x = features(2, [(8, 8), (4, 4), (2, 2), (1, 1)])
    decoder.output_convs = [nn.Identity()] * 3 + [lambda x: x * 0]
    assert_close(decoder.forward_features(x)[0][0, :, 1, 1], decoder.mask_features.bias)
