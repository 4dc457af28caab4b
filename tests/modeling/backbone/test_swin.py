"""The Swin backbone against torchvision's, and its options."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import SwinTransformer

from mask2former.config import add_maskformer2_config
from mask2former.modeling.backbone.swin import D2SwinTransformer, PatchEmbed

TINY = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window_size": 3}
NAMES = ["res2", "res3", "res4", "res5"]


def tiny_swin(**options) -> D2SwinTransformer:
    torch.manual_seed(0)
    model = D2SwinTransformer(**{**TINY, **options})
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return model


def torchvision_features(model: D2SwinTransformer, images):
    """The stages of torchvision's network with the parameters of `model`, in the same order."""
    other = SwinTransformer(
        [4, 4], TINY["embed_dim"], TINY["depths"], TINY["num_heads"], [3, 3]
    ).eval()
    ours = [p for n, p in model.named_parameters() if not n.startswith("norm")]
    theirs = list(other.features.parameters())
    assert [p.shape for p in ours] == [p.shape for p in theirs]
    for a, b in zip(ours, theirs):
        b.data.copy_(a.data)
    x, features = images, {}
    for i, name in enumerate(NAMES):
        x = other.features[2 * i : 2 * i + 2](x)  # embedding or merging, then blocks
        norm = getattr(model, f"norm{i}")
        y = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias)
        features[name] = y.permute(0, 3, 1, 2)
    return features


# torchvision does not shift windows that hold the whole map: sizes of more than one window only.
@pytest.mark.parametrize("size", [(128, 128), (100, 116)])
def test_agrees_with_torchvision(size):
    model = tiny_swin().eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        got, want = model(images), torchvision_features(model, images)
    assert list(got) == NAMES
    for name in NAMES:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-4)


def test_output_shapes_are_as_announced_for_odd_sizes():
    model = tiny_swin(out_features=["res5", "res3"]).eval()
    shapes = model.output_shape()
    assert {n: (s.channels, s.stride) for n, s in shapes.items()} == {
        "res3": (16, 8),
        "res5": (64, 32),
    }
    assert model.size_divisibility == 32
    out = model(torch.randn(1, 3, 37, 50))
    assert {n: tuple(x.shape) for n, x in out.items()} == {
        "res3": (1, 16, 5, 7),  # ceil(37 / 8), ceil(50 / 8)
        "res5": (1, 64, 2, 2),
    }


def test_checkpointing_changes_no_value_and_no_gradient():
    plain, saving = (
        tiny_swin(drop_path_rate=0.0),
        tiny_swin(drop_path_rate=0.0, use_checkpoint=True),
    )
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for model in (plain, saving):
        sum(x.square().mean() for x in model(images).values()).backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_absolute_position_embedding_is_added_and_resized():
    model = tiny_swin(ape=True, pretrain_img_size=64, patch_norm=False, qkv_bias=False).eval()
    assert model.absolute_pos_embed.shape == (1, 8, 16, 16)
    assert "layers.0.blocks.0.attn.qkv.bias" not in model.state_dict()
    seen = []
    model.pos_drop.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for side in (64, 96):
            model(torch.zeros(1, 3, side, side))
            embedded = seen[-1] - model.patch_embed.proj.bias
            position = F.interpolate(
                model.absolute_pos_embed, (side // 4, side // 4), mode="bicubic"
            )
            torch.testing.assert_close(embedded.permute(0, 3, 1, 2), position)


def test_drop_path_rises_linearly_over_all_blocks():
    model = tiny_swin(drop_path_rate=0.7)
    rates = [block.drop_path.p for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_freezing_holds_through_train_which_returns_the_model():
    model = tiny_swin(frozen_stages=2, ape=True, pretrain_img_size=64)
    assert model.train() is model
    assert model.eval() is model
    model.train()
    trained = {n.split(".blocks")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert not any(n.startswith(("patch_embed", "absolute", "layers.0")) for n in trained)
    assert "layers.1" in trained
    assert not model.patch_embed.training and not model.layers[0].training
    assert model.layers[1].training


@pytest.mark.parametrize(
    ("frozen", "parts"),
    [
        (-1, set()),
        (0, {"patch_embed"}),
        (1, {"patch_embed", "absolute_pos_embed"}),
        (3, {"patch_embed", "absolute_pos_embed", "layers.0", "layers.1"}),
    ],
)
def test_frozen_stages(frozen, parts):
    model = tiny_swin(frozen_stages=frozen, ape=True, pretrain_img_size=64)
    still = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert {".".join(n.split(".")[: 1 + n.startswith("layers")]) for n in still} == parts


@pytest.mark.parametrize("names", [["res2"], ["res3", "res5"], ["res2", "res3", "res4", "res5"]])
def test_what_learns_has_a_gradient(names):
    model = D2SwinTransformer(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], drop_path_rate=0.0,
        out_features=names,
    )  # fmt: skip
    sum(x.square().mean() for x in model(torch.randn(1, 3, 32, 32)).values()).backward()
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learning == {n for n, p in model.named_parameters() if p.grad is not None}


def test_config_decides_and_freeze_at_of_the_backbone_is_not_read():
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    cfg.MODEL.BACKBONE.FREEZE_AT = 5
    cfg.MODEL.SWIN.APE = True
    with torch.device("meta"):
        model = build_backbone(cfg)
    assert isinstance(model, D2SwinTransformer)
    assert [len(stage.blocks) for stage in model.layers] == [2, 2, 6, 2]
    assert model.absolute_pos_embed.shape == (1, 96, 56, 56)
    assert all(p.requires_grad for p in model.parameters())
    assert model.layers[3].blocks[1].drop_path.p == pytest.approx(0.3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"out_features": ["res2", "stage3"]}, "out_features must be some of .*res5.*stage3"),
        ({"out_features": []}, "out_features must be some of"),
        ({"num_heads": (1, 2)}, r"one entry for each of at most 4 stages.*\[1, 2\]"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_swin(**options)


def test_images_without_a_batch_axis_are_refused():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(3, 64, 64\)"):
        tiny_swin()(torch.zeros(3, 64, 64))


def test_a_published_method_that_is_not_called_is_refused():
    class Frozen(D2SwinTransformer):
        def _freeze_stages(self):
            self.patch_embed.requires_grad_(False)

    class Calls(Frozen):
        def train(self, mode=True):
            self._freeze_stages()
            return super().train(mode)

    with pytest.raises(TypeError, match="Frozen overrides _freeze_stages, .* Pass frozen_stages"):
        Frozen(**TINY)
    assert not any(p.requires_grad for p in Calls(**TINY).train().patch_embed.parameters())


@torch.no_grad()
def test_patches_by_hand():
    """Of images that are padded to whole patches, channels first as published."""
    patches = PatchEmbed(patch_size=2, in_chans=1, embed_dim=3)
    nn.init.ones_(patches.proj.weight)
    nn.init.zeros_(patches.proj.bias)
    sums = patches(torch.arange(9.0).view(1, 1, 3, 3))
    assert sums[0].tolist() == [[[8, 7], [13, 8]]] * 3
    normed = PatchEmbed(2, 1, 3, norm_layer=nn.LayerNorm)(torch.rand(1, 1, 4, 4))
    torch.testing.assert_close(normed.mean(1), torch.zeros(1, 2, 2), rtol=0, atol=1e-5)


def test_subclass_with_patches_of_its_own():
    class FourChannels(D2SwinTransformer):
        def __init__(self, **options):
            super().__init__(**options)
            self.patch_embed = PatchEmbed(
                patch_size=4, in_chans=4, embed_dim=8, norm_layer=nn.LayerNorm
            )

    model = FourChannels(**TINY)
    assert list(model.state_dict()) == list(tiny_swin().state_dict())
    assert model(torch.rand(1, 4, 32, 40))["res2"].shape == (1, 8, 8, 10)
    model.patch_embed = nn.Conv2d(4, 8, 4, stride=4)  # channels first, as the published ones
    assert model(torch.rand(1, 4, 32, 40))["res5"].shape == (1, 64, 1, 2)


class Walking(D2SwinTransformer):
    """Goes from stage to stage itself, as subclasses of the published class do."""

    def forward(self, x):
        tokens = self.patch_embed(x)
        height, width = tokens.shape[2:]
        assert not self.ape
        tokens = self.pos_drop(tokens.flatten(2).transpose(1, 2))
        features = {}
        for i in range(self.num_layers):
            out, h, w, tokens, height, width = self.layers[i](tokens, height, width)
            if i in self.out_indices:
                out = getattr(self, f"norm{i}")(out).view(-1, h, w, self.num_features[i])
                features[f"res{i + 2}"] = out.permute(0, 3, 1, 2).contiguous()
        return {name: features[name] for name in self._out_features}


@pytest.mark.parametrize("use_checkpoint", [False, True])
def test_subclass_that_goes_from_stage_to_stage(use_checkpoint):
    model, images = tiny_swin(use_checkpoint=use_checkpoint).eval(), torch.randn(2, 3, 70, 90)
    other = Walking(**TINY, out_features=["res3", "res5"]).eval()
    other.load_state_dict(model.state_dict(), strict=True)
    expected, found = model(images), other(images)
    assert list(found) == ["res3", "res5"]
    for name, feature in found.items():
        torch.testing.assert_close(feature, expected[name])
    assert (model.layers[3].downsample, len(model.layers[1].blocks)) == (None, 2)
