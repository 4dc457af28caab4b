"""Pilot queries of EoMT: tokens that see their target alone, and that nothing else sees."""

import pytest
import torch

from mask2former.modeling.build import build_model
from mask2former.modeling.transformer_decoder.pilot import PilotBatch
from tests.modeling.meta_arch.test_image import labelled

pytest.importorskip("timm")
from tests.modeling.meta_arch.test_eomt import VITS
from tests.modeling.small_eomt import eomt_config

SIZE = (4, 4)  # patches of the images here


def make_head(name=VITS[2], pilots=5, blocks=2):
    cfg = eomt_config(name)
    cfg.MODEL.MASK_FORMER.DEC_LAYERS = blocks + 1
    cfg.MODEL.MASK_FORMER.PILOT.QUERIES = pilots
    cfg.MODEL.MASK_FORMER.PILOT.LABEL_NOISE = cfg.MODEL.MASK_FORMER.PILOT.POINT_NOISE = 0.0
    torch.manual_seed(0)
    head = build_model(cfg).sem_seg_head.train()
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in sorted(head.named_parameters()):
        if "gamma" in parameter_name:
            torch.nn.init.ones_(parameter)  # layer scales are too small at first to show anything
        elif parameter.dim() == 2 and "pilot" not in parameter_name:
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return head


def features(batch=1):
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(batch, 32, *SIZE, generator=generator)
    return {"patches": patches, "prefix": torch.randn(batch, 1, 32, generator=generator)}


def halves(*labels):
    """Targets in the left and the right half of an image of 64x64 pixels."""
    masks = torch.zeros(len(labels), 64, 64, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[:, 32 * i : 32 * (i + 1)] = True
    return {"labels": torch.tensor(labels, dtype=torch.int64), "masks": masks}


def run(head, targets, inputs):
    torch.manual_seed(2)
    with head.pilot.show(targets):
        return head(inputs)


def test_what_tokens_see_by_hand():
    """One query, three pilots of two targets, a class token, two patches; the query sees one."""
    batch = PilotBatch(torch.zeros(1, 3, 8), [halves(0, 1)["masks"]], [torch.tensor([1, 0, 1])], 0)
    seen = torch.ones(1, 1, 7, 7, dtype=torch.bool)
    seen[..., 0, 6] = False
    expected = [
        [1, 0, 0, 0, 1, 1, 0],
        [0, 1, 1, 0, 1, 0, 1],
        [0, 1, 1, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0, 1],
        *[[1, 0, 0, 0, 1, 1, 1]] * 3,
    ]
    assert batch.among_tokens(seen, 7, 1, (1, 2))[0, 0].int().tolist() == expected
    expected[0][6] = 1
    assert batch.among_tokens(None, 7, 1, (1, 2))[0, 0].int().tolist() == expected


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_other_tokens_do_not_see_pilots(name, prob):
    with_pilots, without = make_head(name), make_head(name, pilots=0)
    inputs = features(2)
    inputs["prefix"] = inputs["prefix"].expand(-1, 5 if name != VITS[2] else 1, -1)
    for head in (with_pilots, without):
        head.set_mask_probs([prob] * 2)
    out, expected = run(with_pilots, [halves(0, 1), halves()], inputs), without(inputs)
    for a, b in zip((out, *out["aux_outputs"]), (expected, *expected["aux_outputs"]), strict=True):
        torch.testing.assert_close(a["pred_logits"], b["pred_logits"], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(a["pred_masks"], b["pred_masks"], atol=1e-4, rtol=1e-4)
    assert "pilots" not in expected
    assert [p["pred_masks"].shape for p in out["pilots"].predictions] == [(2, 5, 16, 16)] * 2
    assert out["pilots"].predictions[0]["pred_logits"].shape == (2, 5, 4)


@torch.no_grad()
@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_a_pilot_sees_the_patches_of_its_mask_and_no_other_query(prob):
    """In one block: after it, patches would tell it of others."""
    head, inputs = make_head(pilots=1, blocks=1), features()
    head.set_mask_probs([prob])

    def logits():
        return run(head, [halves(2)], inputs)["pilots"].predictions[-1]["pred_logits"]

    before = logits()
    head.query.weight.neg_()
    inputs["patches"][..., 2:].neg_()
    torch.testing.assert_close(logits(), before)
    inputs["patches"][..., 1].neg_()
    assert not torch.allclose(logits(), before, atol=1e-3)


@torch.no_grad()
def test_pilots_have_no_place_in_the_image():
    """With rotary positions, pilots of one class and mask are equal whichever token they are."""
    head, inputs = make_head(VITS[1], pilots=8), features()
    inputs["prefix"] = inputs["prefix"].expand(-1, 5, -1)
    logits = run(head, [halves(1)], inputs)["pilots"].predictions[-1]["pred_logits"][0]
    torch.testing.assert_close(logits, logits[:1].expand_as(logits), atol=1e-4, rtol=1e-4)


def test_training_has_their_losses_and_eval_does_not():
    cfg = eomt_config(VITS[2])
    cfg.MODEL.MASK_FORMER.PILOT.QUERIES = 4
    torch.manual_seed(0)
    model = build_model(cfg).train()
    inputs = [labelled(image_id=1), labelled(seed=1, targets=0, image_id=2)]
    losses = model(inputs)
    sum(losses.values()).backward()
    assert losses["loss_ce_pilot"] > 0
    assert losses["loss_dice_pilot"] > 0
    assert model.sem_seg_head.pilot.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.parameters())
    assert model(inputs[1:])["loss_ce_pilot"] == 0
    assert not any("pilot" in name for name in model.eval().losses(inputs))
