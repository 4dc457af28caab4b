"""Losses of pilots: those of matched queries, whatever the number of pilots; edges."""

import pytest
import torch
from torch.nn import functional as F

from mask2former.modeling.transformer_decoder.pilot import PilotBatch
from tests.modeling.criterion.test_criterion import K, Q, make_criterion, make_outputs, make_target

NAMES = ("loss_ce_pilot", "loss_mask_pilot", "loss_dice_pilot")


def with_pilots(outputs, layers, chosen):
    """The outputs of a decoder whose pilots predict `layers` for the targets `chosen`."""
    batch = PilotBatch(torch.zeros(0), [], [torch.tensor(x, dtype=torch.int64) for x in chosen], 0)
    batch.predictions.extend(layers)
    return {**outputs, "pilots": batch}


def repeated(layer, times):
    return {name: value.repeat(1, times, *[1] * (value.dim() - 2)) for name, value in layer.items()}


@pytest.mark.parametrize("frames", [None, 2])
def test_mask_losses_are_those_of_queries_matched_alike(frames):
    """Of one layer, at the points that the seeds of the images fix."""
    targets = [make_target([2, 0, 1, 1], 1, frames, 5), make_target([1, 1, 0, 2], 2, frames, 6)]
    outputs, criterion = make_outputs(frames=frames), make_criterion()
    matched = criterion.matcher(outputs, targets)
    chosen = [queries.argsort()[None] for queries, _ in matched]
    chosen = [of[index[0]].tolist() for (_, of), index in zip(matched, chosen)]
    losses = criterion(with_pilots(outputs, [outputs], chosen), targets)
    for name in ("loss_mask", "loss_dice"):
        torch.testing.assert_close(losses[f"{name}_pilot"], losses[name])
    labels = torch.stack([t["labels"][index] for t, index in zip(targets, chosen)])
    expected = F.cross_entropy(outputs["pred_logits"].flatten(0, 1), labels.flatten())
    torch.testing.assert_close(losses["loss_ce_pilot"], expected)


def test_an_image_counts_by_its_targets_not_its_pilots():
    """Four pilots of one target, of which a fifth image's worth count as one."""
    targets = [make_target([2], 1), make_target([0, 1, 2], 2)]
    layer = make_outputs()
    with_ones = layer | {"pred_masks": torch.full_like(layer["pred_masks"], 50.0)}
    targets[0]["masks"][:] = targets[1]["masks"][:] = True
    losses = make_criterion()(with_pilots(layer, [with_ones], [[0] * 4, [0, 1, 2, 0]]), targets)
    logits = layer["pred_logits"].log_softmax(-1)
    first = -logits[0, :, 2].sum() / 4
    second = -(logits[1, [0, 1, 2, 3], [0, 1, 2, 0]]).sum() * 3 / 4
    torch.testing.assert_close(losses["loss_ce_pilot"], (first + second) / 4)
    assert losses["loss_mask_pilot"] < 20  # at the border, masks fade to zero


def test_copies_and_layers():
    """Twice the same pilots have the loss of once; two layers of the same, the loss of two."""
    targets = [make_target([2, 1], 1, None, 5)]
    pair = {name: value[:1, :2] for name, value in make_outputs().items()}
    outputs, criterion = make_outputs(batch=1), make_criterion(aux_layers=1)
    outputs["aux_outputs"] = [make_outputs(batch=1)]
    once = criterion(with_pilots(outputs, [pair], [[1, 0]]), targets)
    points = {"num_points": 4096}  # copies have points of their own
    twice = make_criterion(1, **points)(
        with_pilots(outputs, [repeated(pair, 2)], [[1, 0, 1, 0]]), targets
    )
    alone = make_criterion(1, **points)(with_pilots(outputs, [pair], [[1, 0]]), targets)
    layers = criterion(with_pilots(outputs, [pair, pair], [[1, 0]]), targets)
    for name in NAMES:
        torch.testing.assert_close(twice[name], alone[name], rtol=0.05, atol=0.02)
        torch.testing.assert_close(layers[name], 2 * once[name])


def test_without_deep_supervision_the_last_layer_counts():
    targets = [make_target([2, 1], 1, None, 5)]
    pair, other = ({n: v[:1, :2] for n, v in make_outputs(seed=s).items()} for s in (0, 1))
    criterion, outputs = make_criterion(aux_layers=0), make_outputs(batch=1)
    losses = criterion(with_pilots(outputs, [other, pair], [[1, 0]]), targets)
    last = criterion(with_pilots(outputs, [pair], [[1, 0]]), targets)
    assert all(torch.equal(losses[name], last[name]) for name in NAMES)


def test_without_targets_losses_are_zero_and_the_graph_stays():
    layer = make_outputs(grad=True)
    targets = [make_target([]), make_target([])]
    losses = make_criterion()(with_pilots(make_outputs(), [layer], [[], []]), targets)
    assert [losses[name].item() for name in NAMES] == [0.0] * 3
    sum(losses[name] for name in NAMES).backward()
    assert all(value.grad is not None and not value.grad.any() for value in layer.values())
    assert layer["pred_logits"].shape == (2, Q, K + 1)
