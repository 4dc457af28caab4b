"""Criterion: values worked out by hand, one frame equals an image, edges, errors."""

import math

import pytest
import torch

from mask2former.modeling import HungarianMatcher, SetCriterion
from mask2former.modeling.criterion.points import RowLosses

K, Q, SIZE = 3, 4, (8, 8)


def make_criterion(aux_layers=0, **changes):
    weights = {"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    weights |= {f"{k}_{i}": w for i in range(aux_layers) for k, w in list(weights.items())[:3]}
    args = {
        "matcher": HungarianMatcher(2.0, 5.0, 5.0, num_points=32),
        "weight_dict": weights,
        "eos_coef": 0.1,
        "losses": ["labels", "masks"],
        "num_points": 32,
        "oversample_ratio": 3.0,
        "importance_sample_ratio": 0.75,
    }
    return SetCriterion(K, **(args | changes))


def make_outputs(batch=2, frames=None, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    shape = SIZE if frames is None else (frames, *SIZE)
    return {
        "pred_logits": torch.randn(batch, Q, K + 1, generator=generator).requires_grad_(grad),
        "pred_masks": torch.randn(batch, Q, *shape, generator=generator).requires_grad_(grad),
    }


def make_target(labels, seed=0, frames=None, point_seed=None):
    shape = SIZE if frames is None else (frames, *SIZE)
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(len(labels), *shape, generator=generator) > 0.5
    target = {"labels": torch.tensor(labels, dtype=torch.int64), "masks": masks}
    return target if point_seed is None else {**target, "seed": point_seed}


def test_certain_and_right_predictions_by_hand(monkeypatch):
    """Logits of +-c give BCE softplus(-c); the dice of a full mask follows from its area."""
    c = 4.0
    masks = torch.full((1, Q, *SIZE), -c)
    masks[0, 1] = c
    logits = torch.zeros(1, Q, K + 1)
    target = {"labels": torch.tensor([2]), "masks": torch.ones(1, *SIZE, dtype=torch.bool)}
    # No sampling near the border, where a full mask fades to zero.
    criterion = make_criterion(oversample_ratio=1.0, importance_sample_ratio=0.0)
    inside = torch.rand(1, 64, 2) * 0.5 + 0.25
    monkeypatch.setattr(f"{RowLosses.__module__}.random_points", lambda *args: inside)
    losses = criterion({"pred_logits": logits, "pred_masks": masks}, [target])
    prob = 1 / (1 + math.exp(-c))
    assert losses["loss_mask"].item() == pytest.approx(math.log(1 + math.exp(-c)), abs=1e-6)
    dice = 1 - (2 * 32 * prob + 1) / (32 * prob + 32 + 1)
    assert losses["loss_dice"].item() == pytest.approx(dice, abs=1e-6)
    assert losses["loss_ce"].item() == pytest.approx(math.log(K + 1), abs=1e-6)


def test_deep_supervision_names_every_layer():
    outputs = make_outputs()
    outputs["aux_outputs"] = [make_outputs(seed=1), make_outputs(seed=2)]
    targets = [make_target([0, 1]), make_target([2])]
    names = {f"loss_{k}{s}" for k in ("ce", "mask", "dice") for s in ("", "_0", "_1")}
    assert set(make_criterion(aux_layers=2)(outputs, targets)) == names
    assert set(make_criterion(aux_layers=0)(outputs, targets)) == {n for n in names if n[-1] > "9"}


def test_a_layer_s_losses_do_not_depend_on_other_layers():
    targets = [make_target([0, 1], point_seed=3), make_target([2], point_seed=4)]
    last, aux = make_outputs(), make_outputs(seed=1)
    both = make_criterion(aux_layers=1)({**last, "aux_outputs": [aux]}, targets)
    alone = make_criterion()(last, targets)
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value)


def test_one_frame_equals_an_image():
    outputs = make_outputs()
    clip = {**outputs, "pred_masks": outputs["pred_masks"][:, :, None]}
    targets = [make_target([0, 1], point_seed=3), make_target([2], point_seed=4)]
    clip_targets = [{**t, "masks": t["masks"][:, None]} for t in targets]
    criterion = make_criterion()
    image_losses, clip_losses = criterion(outputs, targets), criterion(clip, clip_targets)
    for name, value in image_losses.items():
        torch.testing.assert_close(clip_losses[name], value)


def test_frames_add_up():
    """The same picture twice costs twice as much, up to the points that are drawn."""
    criterion = make_criterion(num_points=4096)
    outputs, target = make_outputs(batch=1), make_target([0, 1])
    twice = {**outputs, "pred_masks": outputs["pred_masks"][:, :, None].repeat(1, 1, 2, 1, 1)}
    clip_target = {**target, "masks": target["masks"][:, None].repeat(1, 2, 1, 1)}
    image, clip = criterion(outputs, [target]), criterion(twice, [clip_target])
    for name in ("loss_mask", "loss_dice"):
        assert clip[name].item() == pytest.approx(2 * image[name].item(), rel=0.05)


def test_seeded_images_add_up_whatever_their_batch():
    outputs = make_outputs()
    targets = [make_target([0, 1], point_seed=3), make_target([2], seed=1, point_seed=4)]
    criterion = make_criterion()
    together = criterion(outputs, targets)
    parts = [criterion({k: v[b : b + 1] for k, v in outputs.items()}, [targets[b]]) for b in (0, 1)]
    for name in ("loss_mask", "loss_dice"):  # divided by 3 targets together, by 2 and 1 alone
        total = parts[0][name] * 2 + parts[1][name]
        torch.testing.assert_close(together[name] * 3, total)


def test_ignored_pixels_have_no_gradient():
    outputs = make_outputs(batch=1, grad=True)
    target = make_target([0, 1])
    target["ignore"] = torch.zeros(SIZE, dtype=torch.bool)
    target["ignore"][:, 4:] = True
    losses = make_criterion(num_points=512)(outputs, [target])
    (losses["loss_mask"] + losses["loss_dice"]).backward()
    grad = outputs["pred_masks"].grad
    assert (grad[..., 5:] == 0).all()
    assert (grad[..., :4] != 0).any()


def test_only_one_image_ignores_pixels():
    """The other counts in full, as if it ignored none."""
    outputs = make_outputs()
    targets = [make_target([0, 1], point_seed=3), make_target([2], point_seed=4)]
    targets[1]["ignore"] = torch.zeros(SIZE, dtype=torch.bool)
    targets[1]["ignore"][:, 3:] = True
    nowhere = {"ignore": torch.zeros(SIZE, dtype=torch.bool)}
    criterion = make_criterion(num_points=64)
    expected = criterion(outputs, [targets[0] | nowhere, targets[1]])
    for name, value in criterion(outputs, targets).items():
        torch.testing.assert_close(value, expected[name])
    everywhere = criterion(
        outputs, [make_target([0, 1], point_seed=3), make_target([2], point_seed=4)]
    )
    assert everywhere["loss_mask"] != expected["loss_mask"]


def test_more_targets_than_queries():
    """Layers then leave out different targets, and a row has one of its own in every layer."""
    targets = [make_target(list(range(3)) * 4, point_seed=3), make_target([1], point_seed=4)]
    last, aux = make_outputs(), make_outputs(seed=1)
    both = make_criterion(aux_layers=1)({**last, "aux_outputs": [aux]}, targets)
    for suffix, layer in (("", last), ("_0", aux)):
        alone = make_criterion()(layer, targets)
        for name, value in alone.items():
            torch.testing.assert_close(both[name + suffix], value)


def test_rows_in_chunks_change_nothing(monkeypatch):
    targets = [make_target([0, 1, 2], point_seed=3), make_target([2, 1], point_seed=4)]
    outputs, criterion = make_outputs(), make_criterion()
    expected = criterion(outputs, targets)
    monkeypatch.setattr(f"{RowLosses.__module__}._MASKS_PER_CHUNK", 2)
    for name, value in criterion(outputs, targets).items():
        torch.testing.assert_close(value, expected[name])


def test_batch_without_targets_trains():
    outputs = make_outputs(grad=True)
    losses = make_criterion()(outputs, [make_target([]), make_target([])])
    assert losses["loss_mask"].item() == losses["loss_dice"].item() == 0
    assert losses["loss_ce"].item() > 0
    sum(losses.values()).backward()
    assert (outputs["pred_masks"].grad == 0).all()
    assert (outputs["pred_logits"].grad != 0).any()


def test_image_without_targets_beside_one_with():
    losses = make_criterion()(make_outputs(), [make_target([]), make_target([1])])
    assert all(torch.isfinite(v) for v in losses.values())
    assert losses["loss_mask"].item() > 0


def test_no_object_weight():
    assert make_criterion().state_dict()["empty_weight"].tolist() == pytest.approx([1, 1, 1, 0.1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ["labels", "boxes"]}, "got \\['boxes'\\]"),
        ({"oversample_ratio": 0.5}, "at least 1"),
        ({"importance_sample_ratio": 1.5}, "0..1"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_criterion(**changes)
