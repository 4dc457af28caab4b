"""The loss of given masks: values worked out by hand, edges."""

import math

import torch

from mask2former.modeling.mask_classifier.criterion import IGNORED, MaskLabelCriterion


def criterion(*names: str) -> MaskLabelCriterion:
    return MaskLabelCriterion(2, dict.fromkeys(names, 1.0), no_object_weight=0.5)


def test_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]]))
    losses = criterion("loss_ce")({"pred_logits": logits}, torch.tensor([[0, 2]]))
    expected = (1.0 * -math.log(0.5) + 0.5 * -math.log(0.6)) / 1.5
    assert set(losses) == {"loss_ce"}
    torch.testing.assert_close(losses["loss_ce"], torch.tensor(expected))


def test_rows_that_fill_up_the_batch_do_not_count():
    logits = torch.randn(2, 3, 3)
    labels = torch.tensor([[0, 1, 2], [1, IGNORED, IGNORED]])
    once = criterion("loss_ce")({"pred_logits": logits}, labels)["loss_ce"]
    logits = logits.clone()
    logits[1, 1:] = 50 * torch.randn(2, 3)
    assert torch.equal(criterion("loss_ce")({"pred_logits": logits}, labels)["loss_ce"], once)


def test_a_layer_without_weight_is_left_out():
    layers = [{"pred_logits": torch.randn(1, 2, 3)} for _ in range(3)]
    outputs = {**layers[0], "aux_outputs": layers[1:]}
    labels = torch.tensor([[0, 1]])
    assert set(criterion("loss_ce", "loss_ce_1")(outputs, labels)) == {"loss_ce", "loss_ce_1"}


def test_nothing_to_learn_is_zero_with_a_gradient():
    logits = torch.randn(1, 2, 3, requires_grad=True)
    losses = criterion("loss_ce")({"pred_logits": logits}, torch.full((1, 2), IGNORED))
    assert losses["loss_ce"].item() == 0
    losses["loss_ce"].backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))
