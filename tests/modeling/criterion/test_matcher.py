"""Matcher: costs worked out by hand, brute force, order of queries, edges."""

import itertools

import pytest
import torch

from mask2former.modeling import HungarianMatcher

SIZE = (8, 8)


def make_case(queries=5, targets=3, seed=0, frames=None):
    """Random predictions of one image or clip, and rectangles as targets."""
    generator = torch.Generator().manual_seed(seed)
    shape = SIZE if frames is None else (frames, *SIZE)
    outputs = {
        "pred_logits": torch.randn(1, queries, 5, generator=generator),
        "pred_masks": torch.randn(1, queries, *shape, generator=generator) * 4,
    }
    masks = torch.rand(targets, *shape, generator=generator) > 0.6
    target = {"labels": torch.arange(targets) % 4, "masks": masks, "seed": 7}
    return outputs, [target]


def test_brute_force():
    matcher = HungarianMatcher(2.0, 5.0, 5.0, num_points=64)
    outputs, targets = make_case()
    ((queries, chosen),) = matcher(outputs, targets)
    cost = matcher._costs(outputs["pred_logits"], outputs["pred_masks"], targets[0])[0]
    best = min(itertools.permutations(range(5), 3), key=lambda way: cost[list(way), range(3)].sum())
    assert dict(zip(chosen.tolist(), queries.tolist())) == dict(enumerate(best))


def test_cost_by_hand(monkeypatch):
    """Constant masks cost the same at every point, so the sampling does not matter."""
    outputs = {
        "pred_logits": torch.log(torch.tensor([[[0.2, 0.5, 0.3]]])),
        "pred_masks": torch.zeros(1, 1, *SIZE),
    }
    masks = torch.ones(2, *SIZE, dtype=torch.bool)
    masks[1] = False
    target = {"labels": torch.tensor([0, 1]), "masks": masks}
    points = torch.tensor([[0.3, 0.4], [0.6, 0.7], [0.5, 0.5], [0.4, 0.2]])  # all well inside
    matcher = HungarianMatcher(2.0, 3.0, 4.0, num_points=4)
    monkeypatch.setattr(f"{HungarianMatcher.__module__}.random_points", lambda *args: points[None])
    cost = matcher._costs(outputs["pred_logits"], outputs["pred_masks"], target)
    log2 = torch.log(torch.tensor(2.0))
    # BCE is log 2 for both; dice of probability 1/2 is 1 - (4+1)/(2+4+1) and 1 - (0+1)/(2+0+1).
    expected = torch.stack([-2 * 0.2 + 3 * log2 + 4 * (2 / 7), -2 * 0.5 + 3 * log2 + 4 * (2 / 3)])
    torch.testing.assert_close(cost[0, 0], expected)


def test_layers_together_equal_layers_alone():
    matcher = HungarianMatcher(2.0, 5.0, 5.0, num_points=64)
    layers = [make_case(seed=s)[0] for s in range(3)]
    targets = make_case()[1]
    together = matcher.match_layers(layers, targets)
    for layer, pairs in zip(layers, together):
        alone = matcher(layer, targets)
        assert [x.tolist() for x in pairs[0]] == [x.tolist() for x in alone[0]]


def test_one_frame_equals_an_image():
    matcher = HungarianMatcher(2.0, 5.0, 5.0, num_points=64)
    outputs, targets = make_case()
    clip = {**outputs, "pred_masks": outputs["pred_masks"][:, :, None]}
    clip_targets = [{**targets[0], "masks": targets[0]["masks"][:, None]}]
    image_pairs, clip_pairs = matcher(outputs, targets), matcher(clip, clip_targets)
    assert [x.tolist() for x in image_pairs[0]] == [x.tolist() for x in clip_pairs[0]]


def test_order_of_queries_follows():
    matcher = HungarianMatcher(2.0, 5.0, 5.0, num_points=64)
    outputs, targets = make_case()
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = {k: v[:, order] for k, v in outputs.items()}
    ((queries, chosen),) = matcher(outputs, targets)
    ((new_queries, new_chosen),) = matcher(shuffled, targets)
    before = dict(zip(chosen.tolist(), queries.tolist()))
    after = dict(zip(new_chosen.tolist(), order[new_queries].tolist()))
    assert before == after


def test_ignored_pixels_do_not_decide():
    """What is predicted there must not change the cost."""
    matcher = HungarianMatcher(1.0, 1.0, 1.0, num_points=200)
    outputs, targets = make_case()
    ignore = torch.zeros(SIZE, dtype=torch.bool)
    ignore[:, 4:] = True
    targets[0]["ignore"] = ignore
    before = matcher._costs(outputs["pred_logits"], outputs["pred_masks"], targets[0])
    changed = outputs["pred_masks"].clone()
    changed[..., 5:] += 9  # column 4 still reaches kept points by interpolation
    after = matcher._costs(outputs["pred_logits"], changed, targets[0])
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize(("queries", "targets"), [(4, 0), (2, 5), (1, 1)])
def test_edges(queries, targets):
    matcher = HungarianMatcher(num_points=16)
    ((chosen_queries, chosen),) = matcher(*make_case(queries, targets))
    assert len(chosen_queries) == len(chosen) == min(queries, targets)


def test_weights_must_not_all_be_zero():
    with pytest.raises(ValueError, match="must not all be 0"):
        HungarianMatcher(0, 0, 0)
