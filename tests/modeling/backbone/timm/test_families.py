"""timm backbones of every family: a training step at an odd size, and timm's models as oracles."""

import pytest
import torch

from mask2former.modeling.backbone.timm import TimmBackbone

timm = pytest.importorskip("timm")

SIZE = (53, 77)  # no multiple of anything
FAMILIES = [
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "swinv2_tiny_window8_256",
    "maxvit_rmlp_pico_rw_256",
    "test_vit",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_at_an_odd_size(name):
    torch.manual_seed(0)
    backbone = TimmBackbone(name, drop_path=0.1).train()
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-5, weight_decay=0)
    images, losses = torch.randn(2, 3, *SIZE), []
    strides = {n: s.stride for n, s in backbone.output_shape().items()}
    assert strides == {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
    for _ in range(2):
        torch.manual_seed(1)  # the same paths are dropped, and the same loss is asked for
        features = backbone(images)
        losses.append(sum((x * torch.randn_like(x)).sum() for x in features.values()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    for n, shape in backbone.output_shape().items():
        size = [-(-side // shape.stride) for side in SIZE]
        assert list(features[n].shape) == [2, shape.channels, *size]
    assert not [n for n, p in backbone.named_parameters() if p.grad is None]
    assert losses[1] < losses[0]


def plain_map(backbone: TimmBackbone, images):
    with torch.no_grad():
        return backbone.model(images)[0]


def as_map(tokens, height: int, width: int):
    """(B, N, C) with one class token in front to (B, C, H, W)."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width))


def test_a_plain_vit_gives_its_normalised_patches():
    torch.manual_seed(0)
    whole = timm.create_model("test_vit").eval()
    backbone = TimmBackbone("test_vit").eval()
    backbone.model.model.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        want = as_map(whole.forward_features(images), 10, 10)
    torch.testing.assert_close(plain_map(backbone, images), want)


def test_position_tables_are_resized_to_the_image():
    """timm builds a model for the other size, and resizes the table when it loads the weights."""
    torch.manual_seed(0)
    backbone = TimmBackbone("test_vit").eval()
    table = backbone.model.model.pos_embed
    torch.nn.init.normal_(table)
    from timm.models.vision_transformer import checkpoint_filter_fn

    other = timm.create_model("test_vit", img_size=(64, 96), num_classes=0).eval()
    weights = checkpoint_filter_fn(backbone.model.model.state_dict(), other)
    other.load_state_dict(weights)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        want = as_map(other.forward_features(images), 4, 6)
    torch.testing.assert_close(plain_map(backbone, images), want, rtol=1e-4, atol=1e-5)


def test_inner_blocks_can_be_chosen():
    torch.manual_seed(0)
    last, inner = TimmBackbone("test_vit").eval(), TimmBackbone("test_vit", [2]).eval()
    assert len(last.model.model.blocks) == 6
    assert len(inner.model.model.blocks) == 3
    inner.model.load_state_dict(last.model.state_dict(), strict=False)
    images = torch.randn(1, 3, 32, 64)
    tokens = []
    last.model.model.blocks[2].register_forward_hook(lambda _m, _a, out: tokens.append(out))
    plain_map(last, images)
    want = as_map(last.model.model.norm(tokens[0]), 2, 4)
    torch.testing.assert_close(plain_map(inner, images), want)


def test_patches_of_14_pixels_become_patches_of_16(tmp_path):
    torch.manual_seed(0)
    name = "vit_small_patch14_dinov2"
    weights = timm.create_model(name).state_dict()
    torch.save(weights, tmp_path / "w.pth")
    got = TimmBackbone(name, pretrained=str(tmp_path / "w.pth")).model.model.state_dict()
    torch.testing.assert_close(got["pos_embed"], weights["pos_embed"])  # 37 x 37 patches as before
    want = timm.layers.resample_patch_embed(weights["patch_embed.proj.weight"], [16, 16])
    torch.testing.assert_close(got["patch_embed.proj.weight"], want)
    rest = [n for n in got if "embed" not in n]
    assert len(rest) > 150
    for n in rest:
        assert torch.equal(got[n], weights[n])


def test_odd_sizes_are_padded_with_zeros_and_cropped():
    torch.manual_seed(0)
    backbone = TimmBackbone("test_convnext").eval()
    images = torch.randn(1, 3, *SIZE)
    padded = torch.zeros(1, 3, 64, 96)
    padded[:, :, :53, :77] = images
    with torch.no_grad():
        got, want = backbone(images), backbone(padded)
    for name, feature in got.items():
        height, width = feature.shape[2:]
        torch.testing.assert_close(feature, want[name][:, :, :height, :width])


def test_images_of_a_batch_do_not_meet():
    torch.manual_seed(0)
    backbone = TimmBackbone("test_vit").eval()
    images = torch.randn(3, 3, 48, 32)
    with torch.no_grad():
        together, alone = backbone(images), backbone(images[1:2])
    for name, feature in alone.items():
        torch.testing.assert_close(together[name][1:2], feature, rtol=1e-4, atol=1e-5)
