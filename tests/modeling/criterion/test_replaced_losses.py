"""Criterion and matcher with methods from elsewhere: each is called, and the rest stays equal."""

from types import MethodType

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mask2former.modeling import HungarianMatcher, SetCriterion

from .test_criterion import Q, make_criterion, make_outputs, make_target

LAYERS = ("", "_0", "_1")
METHODS = ["get_loss", "loss_labels", "loss_masks"]
METHODS += ["_get_src_permutation_idx", "_get_tgt_permutation_idx"]


def make(cls=SetCriterion, **changes):
    """A criterion of another class, with the settings of `make_criterion`."""
    like = make_criterion(aux_layers=2)
    names = ("matcher", "weight_dict", "eos_coef", "losses", "num_points")
    names += ("oversample_ratio", "importance_sample_ratio")
    return cls(like.num_classes, **{name: getattr(like, name) for name in names} | changes)


def example(frames=None, seeds=(None, None), labels=((0, 1), (2,))):
    outputs = make_outputs(frames=frames)
    outputs["aux_outputs"] = [make_outputs(frames=frames, seed=i) for i in (1, 2)]
    targets = [
        make_target(list(of_image), seed=i, frames=frames, point_seed=seed)
        for i, (of_image, seed) in enumerate(zip(labels, seeds))
    ]
    return outputs, targets


def losses_of(criterion, inputs):
    torch.manual_seed(0)
    losses = criterion(*inputs)
    return losses | {"next number": torch.rand(1)}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "inputs",
    [
        example(),
        example(frames=3),
        example(seeds=(3, 4)),
        example(labels=((), ())),
        example(labels=((0, 1, 2) * 4, ())),
    ],
    ids=["image", "clip", "seeded", "no targets", "more targets than queries"],
)
def test_layer_by_layer_gives_what_all_layers_together_give(name, inputs):
    """A method that calls the one it replaces changes nothing, but is called in every layer."""
    calls = []

    def replacement(self, *args):
        calls.append(args)
        return getattr(SetCriterion, name)(self, *args)

    expected = losses_of(make(), inputs)
    got = losses_of(make(type("Own", (SetCriterion,), {name: replacement})), inputs)
    assert len(calls) >= len(LAYERS)
    assert sorted(got) == sorted(expected)
    for key, value in expected.items():
        assert_close(got[key], value)


def test_a_replaced_loss_counts_in_every_layer():
    class Own(SetCriterion):
        def loss_labels(self, outputs, targets, indices, num_masks):
            assert isinstance(num_masks, float) and num_masks == 3
            assert [len(queries) for queries, _ in indices] == [2, 1]
            return {"loss_ce": outputs["pred_logits"].sum()}

    outputs, targets = example()
    got = losses_of(make(Own), (outputs, targets))
    for suffix, layer in zip(LAYERS, [outputs, *outputs["aux_outputs"]]):
        assert_close(got[f"loss_ce{suffix}"], layer["pred_logits"].sum())
    expected = losses_of(make(), (outputs, targets))
    assert_close(got["loss_dice_1"], expected["loss_dice_1"])


@pytest.mark.parametrize("where", ["subclass", "class", "object"])
def test_it_does_not_matter_where_a_method_is_replaced(where, monkeypatch):
    def loss_masks(self, outputs, targets, indices, num_masks):
        return {"loss_mask": torch.tensor(7.0), "loss_dice": torch.tensor(8.0)}

    if where == "subclass":
        mixin = type("Mixin", (), {"loss_masks": loss_masks})
        criterion = make(type("Own", (mixin, type("Between", (SetCriterion,), {})), {}))
    else:
        criterion = make()
    if where == "class":
        monkeypatch.setattr(SetCriterion, "loss_masks", loss_masks)
    elif where == "object":
        criterion.loss_masks = MethodType(loss_masks, criterion)
    losses = losses_of(criterion, example())
    assert [losses[f"loss_mask{s}"].item() for s in LAYERS] == [7, 7, 7]
    assert [losses[f"loss_dice{s}"].item() for s in LAYERS] == [8, 8, 8]


def test_a_loss_of_one_s_own_by_name():
    class Own(SetCriterion):
        def loss_area(self, outputs, targets, indices, num_masks):
            return {"loss_area": outputs["pred_masks"].mean()}

    outputs, targets = example()
    got = losses_of(make(Own, losses=["masks", "area"]), (outputs, targets))
    names = {f"loss_{kind}{s}" for kind in ("mask", "dice", "area") for s in LAYERS}
    assert set(got) == names | {"next number"}
    assert_close(got["loss_area_1"], outputs["aux_outputs"][1]["pred_masks"].mean())


def test_a_loss_of_one_s_own_in_get_loss():
    class Own(SetCriterion):
        def get_loss(self, loss, outputs, targets, indices, num_masks):
            if loss == "count":
                return {"count": torch.tensor(num_masks)}
            return super().get_loss(loss, outputs, targets, indices, num_masks)

    criterion = make(Own, losses=["labels", "count"])
    got = losses_of(criterion, example())
    assert [got[f"count{s}"].item() for s in LAYERS] == [3, 3, 3]
    criterion.losses.append("masks")  # of a built one
    assert "loss_dice_1" in losses_of(criterion, example())


def test_layers_with_weights_of_any_loss_are_computed():
    weights = {"loss_mask": 1.0, "loss_mask_1": 1.0}  # none for classes, none for layer 0
    losses = make(weight_dict=weights)(*example())
    assert {name for name in losses if name.startswith("loss_mask")} == {"loss_mask", "loss_mask_1"}


def test_indices_of_a_batch_by_hand():
    indices = [
        (torch.tensor([3, 0]), torch.tensor([0, 1])),
        (torch.tensor([], dtype=torch.int64),) * 2,
        (torch.tensor([2]), torch.tensor([5])),
    ]
    criterion = make()
    image, query = criterion._get_src_permutation_idx(indices)
    assert (image.tolist(), query.tolist()) == ([0, 0, 2], [3, 0, 2])
    image, target = criterion._get_tgt_permutation_idx(indices)
    assert (image.tolist(), target.tolist()) == ([0, 0, 2], [0, 1, 5])


def test_replaced_indices_reach_both_losses():
    """Every target gets the last query, whatever the matcher says."""

    class Own(SetCriterion):
        def _get_src_permutation_idx(self, indices):
            image, query = super()._get_src_permutation_idx(indices)
            return image, torch.full_like(query, Q - 1)

    inputs = example(labels=((0,), (2,)), seeds=(3, 4))
    last = [(torch.tensor([Q - 1]), torch.tensor([0]))] * 2
    expected = losses_of(make(matcher=lambda outputs, targets: last), inputs)
    got = losses_of(make(Own, matcher=everybody_s_first), inputs)
    for name in ("loss_ce", "loss_mask_0", "loss_dice_1"):
        assert_close(got[name], expected[name])


def everybody_s_first(outputs, targets):
    return [(torch.tensor([0]), torch.tensor([0])) for _ in targets]


class FirstQuery(nn.Module):
    def forward(self, outputs, targets):
        return everybody_s_first(outputs, targets)


class OwnForward(HungarianMatcher):
    def forward(self, outputs, targets):
        return everybody_s_first(outputs, targets)


class OwnMemoryEfficientForward(HungarianMatcher):
    def memory_efficient_forward(self, outputs, targets):
        return everybody_s_first(outputs, targets)


class OwnLayers(HungarianMatcher):
    def match_layers(self, layers, targets):
        return [everybody_s_first(layer, targets) for layer in layers]


@pytest.mark.parametrize(
    "matcher",
    [everybody_s_first, FirstQuery(), OwnForward(), OwnMemoryEfficientForward(), OwnLayers()],
    ids=lambda matcher: getattr(matcher, "__name__", type(matcher).__name__),
)
def test_any_callable_is_a_matcher(matcher):
    """The class loss by hand: the first query of every image has the first target's class."""
    outputs, targets = example()
    losses = make(matcher=matcher)(outputs, targets)
    for suffix, layer in zip(LAYERS, [outputs, *outputs["aux_outputs"]]):
        log_probs = layer["pred_logits"].log_softmax(-1)
        chosen = torch.stack([log_probs[0, 0, 0], log_probs[1, 0, 2]]).sum()
        rest = 0.1 * log_probs[:, 1:, -1].sum()
        by_hand = -(chosen + rest) / (2 + 0.1 * 2 * (Q - 1))
        assert_close(losses[f"loss_ce{suffix}"], by_hand)
        assert losses[f"loss_mask{suffix}"] > 0


def test_a_matcher_may_find_several_queries_for_a_target():
    def two_each(outputs, targets):
        return [(torch.tensor([0, 1]), torch.tensor([0, 0])) for _ in targets]

    losses = make(matcher=two_each)(*example())
    one = make(matcher=everybody_s_first)(*example())
    assert losses["loss_dice"] > 1.3 * one["loss_dice"]


def test_hooks_on_the_matcher_see_every_layer():
    criterion, seen = make(), []
    criterion.matcher.register_forward_hook(lambda module, args, pairs: seen.append(len(pairs)))
    inputs = example()
    expected = losses_of(make(), inputs)
    for name, value in losses_of(criterion, inputs).items():
        assert_close(value, expected[name])
    assert seen == [2, 2, 2]


def test_both_forwards_of_the_matcher_agree():
    matcher = HungarianMatcher(2.0, 5.0, 5.0, num_points=32)
    outputs, targets = example(seeds=(3, 4))
    for got, want in zip(
        matcher.memory_efficient_forward(outputs, targets), matcher(outputs, targets)
    ):
        assert all(torch.equal(a, b) for a, b in zip(got, want))


def test_nothing_is_called_layer_by_layer_where_nothing_is_replaced(monkeypatch):
    """Speed depends on it."""
    monkeypatch.setattr(SetCriterion, "_layer_by_layer", None)
    make()(*example())
