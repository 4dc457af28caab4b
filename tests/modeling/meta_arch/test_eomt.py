"""EoMT's head: masks of attention by hand, what is free of them, gradients, sizes, errors.

Its outputs are compared with those of transformers in tests/checkpoints/bridges/test_eomt.py.
"""

import pytest
import torch

from mask2former.errors import UserError
from mask2former.modeling.build import build_model
from tests.modeling.meta_arch.test_image import image, labelled

pytest.importorskip("timm")
from tests.modeling.small_eomt import eomt_config, eomt_model  # needs timm

DINOV3 = "vit_small_patch16_dinov3"
VITS = ["vit_small_patch14_reg4_dinov2", DINOV3, "vit_tiny_patch16_224"]


def test_attention_mask_by_hand():
    """Two queries, three other tokens, of them two patches: 1x2, from logits of 2x4 pixels."""
    head = eomt_model().sem_seg_head
    left = [[1.0, 1.0, -1.0, -1.0]] * 2
    mask_logits = torch.tensor([[left, [[-x for x in row] for row in left]]])  # (1, 2, 2, 4)
    allowed = head._attention_mask(mask_logits, 5, (1, 2), 1.0)
    expected = torch.ones(5, 5, dtype=torch.bool)
    expected[0, 4] = expected[1, 3] = False  # each query sees its half, and all that is no patch
    assert torch.equal(allowed, expected[None, None])


def test_queries_escape_their_mask_with_the_probability_left():
    head, logits = eomt_model().sem_seg_head, torch.full((1, 2000, 4, 4), -1.0)
    torch.manual_seed(0)
    allowed = head._attention_mask(logits, 2001, (1, 1), 0.25)[0, 0, :2000, -1]
    assert 0.7 < allowed.float().mean() < 0.8


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
def test_queries_that_see_no_patch_do_not_depend_on_patches(name):
    """In one block: after it, class and register tokens would tell them."""
    cfg = eomt_config(name)
    cfg.MODEL.MASK_FORMER.DEC_LAYERS = 2
    model = build_model(cfg).eval()
    for parameter_name, parameter in model.named_parameters():
        if "gamma" in parameter_name:
            parameter.fill_(1)  # layer scales are too small at first to show anything
    head = model.sem_seg_head
    features = model.backbone(torch.randn(1, 3, 64, 64))
    other = features | {"patches": torch.randn(1, 32, 4, 4)}

    def logits(x):
        return head(x, aux_outputs=False)["pred_logits"]

    head.set_mask_probs([0.0])
    assert (logits(features) - logits(other)).abs().max() > 1e-4
    head.set_mask_probs([1.0])
    head._predict = _NothingFirst(head._predict)
    torch.testing.assert_close(logits(features), logits(other))


class _NothingFirst:
    """A head's predictions, at every other call with masks that are empty."""

    def __init__(self, predict):
        self.predict, self.count = predict, 0

    def __call__(self, *args):
        outputs, self.count = self.predict(*args), self.count + 1
        if self.count % 2:
            outputs["pred_masks"] = torch.full_like(outputs["pred_masks"], -1.0)
        return outputs


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("size", [(64, 64), (48, 96), (5, 7)])
def test_images_of_any_size(name, size):
    """Positions are resized, an image smaller than a patch is padded to one."""
    model = eomt_model(name).eval()
    model.sem_seg_head.set_mask_probs([0, 0])
    result = model([{"image": image(*size)}])[0]
    assert result["sem_seg"].shape == (3, *size)
    assert torch.isfinite(result["sem_seg"]).all()


@torch.no_grad()
def test_auxiliary_outputs_cost_nothing_where_nobody_needs_them():
    model = eomt_model().eval()
    head, images = model.sem_seg_head, torch.randn(1, 3, 64, 64)
    calls = []
    head.upscale.register_forward_hook(lambda *args: calls.append(1))
    for probs, wanted, count in (([1, 1], False, 3), ([0, 1], False, 2), ([0, 0], False, 1)):
        calls.clear()
        head.set_mask_probs(probs)
        outputs = head(model.backbone(images), aux_outputs=wanted)
        assert (len(calls), "aux_outputs" in outputs) == (count, False)
    outputs = head(model.backbone(images))
    assert [x["pred_masks"].shape for x in outputs["aux_outputs"]] == [(1, 6, 16, 16)] * 2


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", VITS)
def test_all_parameters_learn(name, checkpointing):
    cfg = eomt_config(name)
    cfg.MODEL.TIMM.USE_CHECKPOINT = checkpointing
    torch.manual_seed(0)
    model = build_model(cfg).train()
    losses = model([labelled(image_id=1), labelled(seed=1, targets=3, image_id=2)])
    assert set(losses) == {f"loss_{k}{s}" for k in ("ce", "mask", "dice") for s in ("", "_0", "_1")}
    sum(losses.values()).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []


def test_checkpoints_hold_the_probabilities():
    first, second = eomt_model(), eomt_model()
    first.sem_seg_head.set_mask_probs([0.0, 0.5])
    second.load_state_dict(first.state_dict())
    assert second.sem_seg_head._probs == [0.0, 0.5]
    with pytest.raises(ValueError, match="expected 2 probabilities, got 1"):
        first.sem_seg_head.set_mask_probs([1.0])


@torch.no_grad()
def test_queries_have_no_place_in_the_image():
    """Rotary positions are those of patches: with all other tokens equal, queries are equal."""
    model = eomt_model(DINOV3).eval()
    head = model.sem_seg_head
    head.set_mask_probs([0, 0])
    head.query.weight[:] = head.query.weight[0]
    logits = head(model.backbone(torch.randn(1, 3, 64, 64)))["pred_logits"][0]
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"PATCH_SIZE": 12}, "PATCH_SIZE: expected a power of 2, got 12"),
        ({"IMAGE_SIZE": [64, 72]}, r"multiples of the patch size, 16, got \[64, 72\]"),
        ({"IMAGE_SIZE": [8, 8]}, "multiples of the patch size, 16"),
        ({"NUM_HEADS": 5}, "32 channels do not split into 5 heads"),
        ({"UPSCALE_BLOCKS": 5}, "patches of 16 pixels can be enlarged 0 to 4 times by two, got 5"),
        ({"DEPTH": 1}, "1 to 1 of this ViT; got 2"),
    ],
)
def test_sizes_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        eomt_model(**changes)


def test_other_backbones_and_features_are_refused():
    with pytest.raises(UserError, match="needs a plain ViT, .* resnet18 is a ResNet"):
        eomt_model("resnet18")
    cfg = eomt_config()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    with pytest.raises(UserError, match="expected the features patches and prefix"):
        build_model(cfg)
