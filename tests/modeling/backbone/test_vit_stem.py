"""Patches that are embedded by a network: values against its features, sizes, rates, errors."""

import pytest
import torch
from torch.nn import functional as F

from mask2former.errors import UserError
from mask2former.modeling.backbone.timm import TimmBackbone
from mask2former.modeling.build import build_model
from tests.modeling.meta_arch.test_image import labelled

pytest.importorskip("timm")
from tests.modeling.small_eomt import eomt_config

NETWORK = "tf_efficientnet_lite0"
MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]


def stem_config(*indices, patch=8, **options):
    cfg = eomt_config("vit_tiny_patch16_224", PATCH_SIZE=patch)
    cfg.MODEL.EOMT.UPSCALE_BLOCKS = 1
    cfg.MODEL.EOMT.STEM.NAME = NETWORK
    cfg.MODEL.EOMT.STEM.OUT_INDICES = list(indices)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = MEAN, STD
    for key, value in options.items():
        cfg.MODEL.TIMM[key] = value
    return cfg


def make_backbone(*indices, **options):
    torch.manual_seed(0)
    return build_model(stem_config(*indices, **options)).backbone.eval()


def features_of(stem, *indices, **options):
    """What the same network without the stem around it computes."""
    network = TimmBackbone(NETWORK, indices, **options).eval()
    network.model.load_state_dict(stem.backbone.model.state_dict())
    return network


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (40, 72)])
def test_patches_are_the_sum_of_projected_features(size):
    stem = make_backbone(2, 4).vit.patch_embed
    images = torch.randn(2, 3, *size)
    features = features_of(stem, 2, 4)(images)
    fine, coarse = (stem.project[name](features[name]) for name in ("res3", "res5"))
    coarse = F.interpolate(coarse, scale_factor=4, mode="bilinear")
    height, width = size[0] // 8, size[1] // 8
    expected = (fine + coarse[..., :height, :width]).permute(0, 2, 3, 1)
    assert coarse.abs().mean() > 1e-3
    torch.testing.assert_close(stem(images), expected)


@torch.no_grad()
def test_the_network_gets_images_as_it_was_trained_with_them():
    once, never = (make_backbone(2, NORMALIZE=kind) for kind in ("timm", "config"))
    stem, images = once.vit.patch_embed, torch.randn(1, 3, 64, 64)
    network = features_of(stem, 2, normalized_with=(MEAN, STD), bgr=True)
    torch.testing.assert_close(stem.backbone(images)["res3"], network(images)["res3"])
    assert not once.renormalize
    plain = features_of(never.vit.patch_embed, 2)
    torch.testing.assert_close(
        never.vit.patch_embed.backbone(images)["res3"], plain(images)["res3"]
    )


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (5, 7), (40, 72)])
def test_images_of_any_size(size):
    model = build_model(stem_config(2, 3)).eval()
    result = model([{"image": torch.rand(3, *size) * 255}])[0]
    assert result["sem_seg"].shape == (3, *size)
    assert torch.isfinite(result["sem_seg"]).all()


def test_images_are_padded_as_the_network_asks_for():
    assert build_model(stem_config(2)).size_divisibility == 8
    assert build_model(stem_config(2, 4)).size_divisibility == 32


def test_all_parameters_learn_but_frozen_norms():
    model = build_model(stem_config(2, 3, 4, FREEZE_BN=True)).train()
    sum(model([labelled(), labelled(seed=1)]).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert not any("bn" in name for name, _ in model.named_parameters())


def test_rates_and_freezing_are_those_of_patches():
    scales = make_backbone(2, LAYER_DECAY=0.5).lr_scales()
    of_stem = {value for name, value in scales.items() if name.startswith("vit.patch_embed.")}
    assert of_stem == {scales["vit.pos_embed"]} == {0.125}
    assert "vit.patch_embed.project.res3.weight" in scales
    assert "vit.patch_embed.backbone.model.conv_stem.weight" in scales
    assert not any(n.startswith("vit.patch_embed.proj.") for n in scales)
    frozen = make_backbone(2, FREEZE_AT=2)
    learning = {n for n, p in frozen.named_parameters() if p.requires_grad}
    assert not any("patch_embed.backbone" in name for name in learning)


@pytest.mark.parametrize("patch, indices", [(16, (2, 3)), (8, (3, 4)), (8, (1, 2))])
def test_features_of_another_stride_than_the_patches(patch, indices):
    with pytest.raises(
        UserError, match=rf"OUT_INDICES: the finest .* stride of the patches, {patch}"
    ):
        build_model(stem_config(*indices, patch=patch))
