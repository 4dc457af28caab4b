"""Whole models on a GPU, where there is one: what they say is what they say on the CPU, and in eval
they queue their work without waiting for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from mask2former.modeling.postprocessing.cuda_graphs import GraphedFunction

from .small import tiny_model, tiny_video_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
MODELS = pytest.mark.parametrize("make", [tiny_model, tiny_video_model], ids=["image", "clip"])


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever waits for the GPU in here raises an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def frames(count: int, height: int, width: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        for _ in range(count)
    ]


@MODELS
@torch.no_grad()
def test_agrees_with_the_cpu(make, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = make(precision="fp32").eval()
    expected = model.predict(model.preprocess(frames(2, 64, 96)).tensor)
    model = model.cuda()
    got = model.predict(model.preprocess(frames(2, 64, 96)).tensor)
    for name in ("pred_logits", "pred_masks"):
        torch.testing.assert_close(got[name].cpu(), expected[name], rtol=1e-3, atol=1e-3)


@MODELS
@torch.no_grad()
def test_eval_does_not_wait_for_the_gpu(make):
    model = make().eval().cuda()
    model.predict(model.preprocess(frames(2, 64, 64)).tensor)  # compiles and tunes the kernels
    with no_waiting():
        model.predict(model.preprocess(frames(2, 96, 64)).tensor)  # of a new size


@torch.no_grad()
def test_semantic_output_does_not_wait_for_the_gpu():
    model = tiny_model(panoptic_on=False, instance_on=False).eval().cuda()
    model([{"image": frames(1, 64, 64)[0]}])
    with no_waiting():
        (result,) = model([{"image": frames(1, 64, 96)[0], "height": 50, "width": 70}])
    assert result["sem_seg"].shape == (3, 50, 70)


@torch.no_grad()
def test_replaying_graphs_changes_nothing():
    """For sizes that come again, also after weights have changed in place, or have moved."""
    plain, graphed = (tiny_model(cuda_graphs=on).eval().cuda() for on in (False, True))
    inputs = [[{"image": x}] for x in (*frames(2, 64, 96), *frames(1, 96, 64), *frames(1, 64, 96))]
    for change in (lambda model: None, double_class_layer, lambda model: model.cpu().cuda()):
        for model in (plain, graphed):
            change(model)
        for image in inputs:
            (a,), (b,) = plain(image), graphed(image)
            torch.testing.assert_close(a["sem_seg"], b["sem_seg"])
            assert a["panoptic_seg"][1] == b["panoptic_seg"][1]
    assert len(graphed._replay._recordings) == 2


def double_class_layer(model):
    model.sem_seg_head.predictor.class_embed.weight.mul_(2)


@torch.no_grad()
def test_few_recordings_are_kept():
    calls = []

    def twice(images):
        calls.append(images.shape)
        return {"out": images * 2}

    function = GraphedFunction(twice, max_recordings=2)
    for width in (1, 2, 3, 2, 3, 1):
        images = torch.rand(3, width, device="cuda")
        assert torch.equal(function(images)["out"], images * 2)
    recorded = [shape[1] for before, shape in zip([None, *calls], calls) if shape != before]
    assert recorded == [1, 2, 3, 1]
    function.clear()
    assert not function._recordings


def test_training_agrees_with_the_cpu(monkeypatch):
    """Losses and gradients, at points that are drawn from the images' names."""
    from detectron2.structures import Instances

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :30, :40] = masks[1, 35:, 20:] = True
    instances = Instances((64, 64), gt_classes=torch.tensor([0, 2]), gt_masks=masks)
    inputs = [{"image": frames(1, 64, 64)[0], "instances": instances, "image_id": 3}]
    found = []
    for device in ("cpu", "cuda"):
        model = tiny_model(point_seed=0)
        layer = model.sem_seg_head.pixel_decoder.transformer.encoder.layers[0].self_attn
        # At first samples lie in the centres of pixels, where the derivative jumps.
        torch.nn.init.uniform_(layer.sampling_offsets.bias, 0.1, 0.4)
        model.to(device)
        losses = model(inputs)
        sum(losses.values()).backward()
        grads = {k: p.grad.cpu() for k, p in model.named_parameters() if p.grad is not None}
        found.append(({k: v.detach().cpu() for k, v in losses.items()}, grads))
    (losses, grads), (gpu_losses, gpu_grads) = found
    torch.testing.assert_close(gpu_losses, losses, rtol=1e-3, atol=1e-3)
    assert grads.keys() == gpu_grads.keys()
    for name, grad in grads.items():
        assert (gpu_grads[name] - grad).norm() < 0.02 * grad.norm() + 1e-4, name
