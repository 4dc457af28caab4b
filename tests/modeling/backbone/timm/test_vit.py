"""The first blocks of timm's ViTs: with the last ones they are timm's model; rates, freezing."""

import pytest
import torch

from mask2former.modeling.backbone.timm_vit import apply_blocks, build_vit
from mask2former.modeling.build import build_model

timm = pytest.importorskip("timm")
from tests.modeling.small_eomt import eomt_config, eomt_model  # noqa: E402  # needs timm

VITS = ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "vit_tiny_patch16_224"]


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
def test_with_the_last_blocks_it_is_timms_model(name):
    model = eomt_model(name).eval()
    options = {"embed_dim": 32, "depth": 3, "num_heads": 4, "img_size": 64, "num_classes": 0}
    whole = timm.create_model(name, patch_size=16, dynamic_img_size=True, **options).eval()
    head = model.sem_seg_head
    weights = dict(model.backbone.vit.state_dict())
    for i, block in enumerate(head.blocks):
        weights |= {f"blocks.{1 + i}.{n}": t for n, t in block.state_dict().items()}
    weights |= {f"norm.{n}": t for n, t in head.norm.state_dict().items()}
    whole.load_state_dict(weights)
    images = torch.randn(2, 3, 48, 80)
    features = model.backbone(images)
    for block in head.blocks:
        if hasattr(block.attn, "num_prefix_tokens"):
            block.attn.num_prefix_tokens -= head.num_queries
    x = torch.cat([features["prefix"], features["patches"].flatten(2).mT], 1)
    rope = None if head.rope is None else head.rope.get_embed(shape=(3, 5))
    found = head.norm(apply_blocks(head.blocks, x, rope))
    torch.testing.assert_close(found, whole.forward_features(images), rtol=1e-4, atol=1e-5)
    assert {n: s.channels for n, s in model.backbone.output_shape().items()} == {
        "patches": 32,
        "prefix": 32,
    }
    assert model.size_divisibility == 16


@pytest.mark.parametrize("width", [32, 256])
def test_random_weights_suit_the_width(width):
    """Xavier's uniform values, by whose spread activations keep theirs at any width."""
    block = build_vit(eomt_config(VITS[2], EMBED_DIM=width)).model.blocks[0]
    for weight, channels in ((block.attn.qkv.weight, 2), (block.mlp.fc1.weight, 5)):
        limit = (6 / (channels * width)) ** 0.5
        assert 0.95 * limit < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)


def test_learning_rates_fall_by_layer():
    cfg = eomt_config()
    cfg.MODEL.TIMM.LAYER_DECAY = 0.5
    model = build_model(cfg)
    start, head = model.backbone.lr_scales(), model.sem_seg_head.lr_scales()
    assert start["vit.pos_embed"] == start["vit.cls_token"] == 0.125
    assert start["vit.blocks.0.attn.qkv.weight"] == 0.25
    assert head["blocks.0.attn.qkv.weight"] == 0.5
    assert not {name for name in head if not name.startswith("blocks.0.")}
    assert set(start) <= dict(model.backbone.named_parameters()).keys()
    assert set(head) <= dict(model.sem_seg_head.named_parameters()).keys()


@pytest.mark.parametrize("freeze_at, frozen", [(0, []), (2, ["0"]), (-1, ["0", "1", "2"])])
def test_frozen_blocks(freeze_at, frozen):
    cfg = eomt_config()
    cfg.MODEL.TIMM.FREEZE_AT = freeze_at
    vit = build_vit(cfg).model
    found = {
        n.split(".")[1] for n, p in vit.blocks.named_parameters(prefix="b") if not p.requires_grad
    }
    assert sorted(found) == frozen
    assert vit.patch_embed.proj.weight.requires_grad == (freeze_at == 0)


def test_weights_come_from_a_file_and_are_resampled(tmp_path):
    """Patches of 14 pixels become patches of 16, the position table fits other images."""
    name = "vit_small_patch14_reg4_dinov2"
    options = {"embed_dim": 32, "depth": 3, "num_heads": 4, "num_classes": 0}
    whole = timm.create_model(name, img_size=56, **options)
    torch.save(whole.state_dict(), tmp_path / "vit.pth")
    cfg = eomt_config(name)
    cfg.MODEL.TIMM.PRETRAINED = str(tmp_path / "vit.pth")
    model = build_model(cfg)
    last = model.sem_seg_head.blocks[-1].mlp.fc1.weight
    assert torch.equal(last, whole.blocks[-1].mlp.fc1.weight)
    assert torch.equal(model.backbone.vit.blocks[0].mlp.fc1.weight, whole.blocks[0].mlp.fc1.weight)
    assert torch.equal(model.sem_seg_head.norm.weight, whole.norm.weight)
    assert model.backbone.vit.patch_embed.proj.weight.shape == (32, 3, 16, 16)
    torch.testing.assert_close(model.backbone.vit.pos_embed, whole.pos_embed)  # 4x4 both
