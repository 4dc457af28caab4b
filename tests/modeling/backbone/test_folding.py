"""Folded norms: equal to detectron2's own convolutions in eval and training, and in checkpoints."""

import copy

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
)
from torch import nn

from mask2former.modeling.backbone import folding
from mask2former.modeling.backbone.folding import (
    FoldedConv2d,
    FusedBottleneck,
    FusedStage,
    FusedStem,
    PointwiseConv2d,
    speed_up_convolutions,
)


def noise(module):
    generator = torch.Generator().manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


def network(norm, bias=False):
    return noise(
        nn.Sequential(
            Conv2d(3, 8, 3, stride=2, padding=1, bias=bias, norm=norm(8), activation=nn.ReLU()),
            Conv2d(8, 8, 1, bias=False, norm=norm(8)),
            Conv2d(8, 4, 1),
        ).double()
    )


X = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
@pytest.mark.parametrize("bias", [False, True])
def test_eval(norm, bias):
    plain = network(norm, bias).eval()
    folded = speed_up_convolutions(copy.deepcopy(plain))
    assert type(folded[0]) is FoldedConv2d
    torch.testing.assert_close(folded(X), plain(X))


def test_a_fixed_norm_is_no_pass_of_its_own(monkeypatch):
    folded = speed_up_convolutions(network(FrozenBatchNorm2d)).eval()
    monkeypatch.setattr(FrozenBatchNorm2d, "forward", lambda *args: pytest.fail("called"))
    folded(X)


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
def test_training(norm):
    """Gradients too, and statistics, which only a norm that is not folded updates."""
    assert_trained_alike(network(norm).train(), X)


def assert_trained_alike(plain, x, **tolerance):
    """A folded copy has the same gradients and buffers after a step backward."""
    folded = speed_up_convolutions(copy.deepcopy(plain))
    for model in (plain, folded):
        model(x).square().mean().backward()
    for (name, p), (other, q) in zip(plain.named_parameters(), folded.named_parameters()):
        assert name == other
        torch.testing.assert_close(q.grad, p.grad, msg=name, **tolerance)
    for p, q in zip(plain.buffers(), folded.buffers()):
        torch.testing.assert_close(p, q)


def test_weights_that_are_loaded_later_count():
    plain = network(FrozenBatchNorm2d)
    folded = speed_up_convolutions(copy.deepcopy(plain)).eval()
    folded(X)
    with torch.no_grad():
        plain[0].norm.running_mean.add_(1)
        plain[1].weight.mul_(2)
    folded.load_state_dict(plain.state_dict())
    torch.testing.assert_close(folded(X), plain.eval()(X))
    assert list(folded.state_dict()) == list(plain.state_dict())


def test_other_norms_and_convolutions_stay():
    model = nn.Sequential(Conv2d(3, 4, 1, norm=nn.GroupNorm(2, 4)), nn.Conv2d(4, 2, 3))
    model.double()
    expected = model(X)
    torch.testing.assert_close(speed_up_convolutions(model)(X), expected)
    assert type(model[1]) is nn.Conv2d


def resnet(norm):
    """A stem, a block that changes the width, and one that does not."""
    args = {"bottleneck_channels": 4, "norm": norm}
    blocks = [BottleneckBlock(8, 16, stride=2, **args), BottleneckBlock(16, 16, **args)]
    model = nn.Sequential(BasicStem(3, 8, norm=norm), *blocks)
    for part in model.modules():
        if isinstance(part, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            noise(part)
    return model


IMAGES = torch.randn(2, 3, 33, 47, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "GN"])
@torch.no_grad()
def test_residual_blocks_in_eval(norm, layout):
    plain = resnet(norm if norm != "GN" else lambda channels: nn.GroupNorm(2, channels)).eval()
    fused = speed_up_convolutions(copy.deepcopy(plain))
    assert [type(part) for part in fused] == [FusedStem, FusedBottleneck, FusedBottleneck]
    x = IMAGES.to(memory_format=layout)
    before = x.clone()
    torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)


@torch.no_grad()
def test_a_blocks_input_stays():
    """It is a feature of its own: only a shortcut's result may be overwritten."""
    block = speed_up_convolutions(resnet("FrozenBN"))[2].eval()
    x = torch.randn(1, 16, 9, 11).contiguous(memory_format=torch.channels_last)
    kept = x.clone()
    block(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_residual_blocks_in_training(norm):
    # Of float32, whose sums go through several layers in another order.
    assert_trained_alike(resnet(norm).train(), IMAGES, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_residual_blocks_under_autocast():
    """Three digits of bfloat16, through eleven convolutions."""
    plain = resnet("FrozenBN").eval()
    fused = speed_up_convolutions(copy.deepcopy(plain))
    x = IMAGES.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        found = fused(x)
    assert found.dtype == torch.bfloat16
    expected = plain(x)
    assert (found - expected).abs().mean() < 0.01 * expected.abs().mean()


@torch.no_grad()
def test_convolutions_that_are_watched_are_called():
    block = speed_up_convolutions(resnet("FrozenBN"))[1].eval()
    x = torch.randn(1, 8, 9, 11)
    expected, seen = block(x), []
    for part in (block.conv2, block.shortcut):
        part.register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
    assert len(seen) == 2


@torch.no_grad()
def test_blocks_whose_parts_were_replaced():
    """By what is no folded convolution, or hands its input on."""
    block = speed_up_convolutions(resnet("FrozenBN"))[2].eval()
    x = torch.randn(1, 16, 9, 11).contiguous(memory_format=torch.channels_last)
    kept, expected = x.clone(), block(x)
    block.shortcut = nn.Identity()
    torch.testing.assert_close(block(x.clone()), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(x, kept)
    block.shortcut, conv2 = None, block.conv2
    block.conv2 = nn.Sequential(conv2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
    block.conv2, block.conv1.activation = conv2, torch.cos
    separate = BottleneckBlock.forward(block, x)
    torch.testing.assert_close(block(x), separate, rtol=1e-4, atol=1e-4)


def test_other_blocks_stay():
    blocks = [BasicBlock(4, 4), DeformBottleneckBlock(4, 8, bottleneck_channels=4)]
    for block in blocks:
        kind = type(block)
        assert type(speed_up_convolutions(block)) is kind


def test_convolutions_of_one_pixel():
    class Own(nn.Conv2d):
        pass

    parts = [nn.Conv2d(16, 32, 1, stride=2), nn.Conv2d(32, 8, 3), Own(8, 4, 1)]
    plain = noise(nn.Sequential(*parts))
    fast = speed_up_convolutions(copy.deepcopy(plain))
    assert [type(part) for part in fast] == [PointwiseConv2d, nn.Conv2d, Own]
    assert list(fast.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 16, 14, 22, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fast(x), plain(x))


def test_convolutions_of_one_pixel_use_the_operator(monkeypatch):
    monkeypatch.setattr(folding, "conv2d", lambda *args: pytest.fail("conv2d"))
    with pytest.raises(pytest.fail.Exception, match="conv2d"):
        speed_up_convolutions(nn.Conv2d(3, 4, 1))(torch.ones(2, 3, 5, 5))


@torch.no_grad()
def test_a_stage_overwrites_results_of_its_own_blocks_alone(monkeypatch):
    """Neither what comes in, where the first block adds it, nor what a hook has seen changes."""

    def block():
        return BottleneckBlock(8, 8, bottleneck_channels=4, norm="FrozenBN")

    stage = noise(nn.Sequential(block(), block(), block())).eval()
    fused = speed_up_convolutions(copy.deepcopy(stage))
    assert type(fused) is FusedStage
    x = torch.rand(1, 8, 9, 11, generator=torch.Generator().manual_seed(2))
    x = x.contiguous(memory_format=torch.channels_last)
    before, seen, overwritten = x.clone(), [], []
    fused[1].register_forward_hook(lambda m, args, out: seen.append((out, out.clone())))
    relu = folding.conv2d_relu
    monkeypatch.setattr(
        folding,
        "conv2d_relu",
        lambda *args, **more: overwritten.append(more["overwrite"]) or relu(*args, **more),
    )
    torch.testing.assert_close(fused(x), stage(x))
    assert torch.equal(x, before)
    assert torch.equal(*seen[0])
    assert overwritten == [False] * 5 + [True] + [False] * 3
