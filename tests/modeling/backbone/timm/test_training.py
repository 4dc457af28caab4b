"""What of a timm backbone is trained, at which rate, and with how much memory."""

import pytest
import torch
from torch import nn

from mask2former.modeling.backbone.timm import TimmBackbone

timm = pytest.importorskip("timm")


def frozen(backbone: TimmBackbone) -> set[str]:
    """First two parts of the names of frozen parameters."""
    names = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    return {".".join(n.removeprefix("model.").split(".")[:2]) for n in names}


def test_stages_are_frozen_from_the_stem_on():
    backbone = TimmBackbone("test_resnet", freeze_at=2).train()
    parts = {n.partition(".")[0] for n in frozen(backbone)}
    assert parts == {"conv1", "bn1", "layer1"}
    assert not backbone.model.layer1.training and not backbone.model.bn1.training
    assert backbone.model.layer2.training
    mean = backbone.model.bn1.running_mean.clone()
    backbone(3 + torch.randn(2, 3, 32, 32))
    assert torch.equal(backbone.model.bn1.running_mean, mean)


def test_blocks_of_a_plain_vit_are_frozen():
    backbone = TimmBackbone("test_vit", freeze_at=3, drop_path=0.5).train()
    model = {"cls_token", "pos_embed", "patch_embed.proj", "blocks.0", "blocks.1"}
    assert {n.removeprefix("model.") for n in frozen(backbone)} >= {"cls_token", "pos_embed"}
    names = {n for n, p in backbone.model.model.named_parameters() if not p.requires_grad}
    assert {".".join(n.split(".")[:2]) for n in names} == model
    assert [block.training for block in backbone.model.model.blocks] == [False] * 2 + [True] * 4


def test_everything_but_the_pyramid_can_be_frozen():
    backbone = TimmBackbone("test_vit", freeze_at=-1, drop_path=0.5).train()
    trained = {n.partition(".")[0] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"pyramid"}
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():  # no dropped paths
        torch.testing.assert_close(backbone(images), backbone(images))
    sum(x.sum() for x in backbone(images).values()).backward()
    assert backbone.pyramid.levels[0].up1.weight.grad is not None


def test_learning_rates_fall_by_layer():
    scales = TimmBackbone("test_vit", layer_decay=0.5).lr_scales()
    by_part = {".".join(n.split(".")[2:4]): s for n, s in scales.items()}
    assert by_part == {
        "cls_token": 0.5**6,
        "pos_embed": 0.5**6,
        "patch_embed.proj": 0.5**6,
        **{f"blocks.{i}": 0.5 ** (5 - i) for i in range(5)},
    }  # the last block, the norm and the pyramid learn at the full rate
    assert TimmBackbone("test_vit").lr_scales() == {}


def test_layers_of_a_pyramid_are_its_blocks():
    scales = TimmBackbone("test_convnext", layer_decay=0.5).lr_scales()
    depths = (1, 2, 4, 2)
    blocks = [
        f"model.stages_{i}.blocks.{j}" for i, depth in enumerate(depths) for j in range(depth)
    ]
    for number, block in enumerate(blocks[:-1], 1):
        assert scales[f"{block}.conv_dw.weight"] == 0.5 ** (9 - number)
    assert scales["model.stem_0.weight"] == 0.5**9
    assert scales["model.stages_2.downsample.1.weight"] == 0.5**5  # with the block behind it
    assert not any(name.startswith(blocks[-1]) for name in scales)  # the last learns at full rate


@pytest.mark.parametrize("options", [{"layer_decay": 0.9}, {"freeze_at": 1}])
def test_models_whose_layers_timm_does_not_know(options):
    with pytest.raises(ValueError, match="does not know the layers of MetaFormer.*must be 1"):
        TimmBackbone("poolformer_s12", **options)


def test_such_models_can_be_frozen_as_a_whole():
    backbone = TimmBackbone("poolformer_s12", freeze_at=-1)
    assert not any(p.requires_grad for p in backbone.parameters())


def test_drop_path_rises_linearly():
    model = TimmBackbone("test_vit", drop_path=0.5).model.model
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    with pytest.raises(ValueError, match="inception_v4 does not know an option: .*drop_path_rate"):
        TimmBackbone("inception_v4", drop_path=0.1)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("test_resnet", "layer2.0.conv1"),
        ("test_convnext", "stages_1.blocks.0.conv_dw"),
        ("test_efficientnet", "blocks.2.0.conv_pwl"),
        ("test_vit", "model.blocks.3.attn.qkv"),
    ],
)
def test_checkpointing_computes_again_and_changes_no_gradient(name, block):
    plain, saving = TimmBackbone(name), TimmBackbone(name, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    runs = []
    for model in (plain, saving):
        seen = []
        layer = model.model.get_submodule(block)
        layer.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        sum(x.square().mean() for x in model(images).values()).backward()
        runs.append(len(seen))
    assert runs == [1, 2]
    for (n, a), b in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6, msg=n)


def test_models_without_checkpointing():
    with pytest.raises(ValueError, match="hrnet_w18_small cannot compute activations again"):
        TimmBackbone("hrnet_w18_small", checkpointing=True)


def test_names_of_the_quick_start_stay():
    """Checkpoints that were trained with tf_efficientnet_lite0 have these names."""
    options = {"features_only": True, "out_indices": (1, 2, 3, 4)}
    names = timm.create_model("tf_efficientnet_lite0", **options).state_dict()
    backbone = TimmBackbone("tf_efficientnet_lite0")
    assert list(backbone.state_dict()) == [f"model.{n}" for n in names]
    assert "model.conv_stem.weight" in backbone.state_dict()
    assert isinstance(backbone.model.conv_stem, nn.Module)
