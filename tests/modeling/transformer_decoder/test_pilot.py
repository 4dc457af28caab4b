"""Pilot queries: who sees whom and which pixels, noise, edges, errors."""

from pathlib import Path

import pytest
import torch
from detectron2.structures import Instances

from mask2former import load_config
from mask2former.modeling import (
    MultiScaleMaskedTransformerDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)
from mask2former.modeling.build import build_model
from mask2former.modeling.transformer_decoder.pilot import (
    PilotQueries,
    Pilots,
    shown_to_pilots,
)
from tests.modeling.small import NUM_CLASSES, WIDTH, tiny_head, tiny_model
from tests.modeling.transformer_decoder.test_masked import ARGS, K, Q, make_decoder, make_input

CONFIGS = Path(__file__).resolve().parents[3] / "configs/shapes"
CLEAN = {"label_noise": 0.0, "point_noise": 0.0}
CANVAS = (36, 44)  # of `make_input`


def target(*rectangles, labels=None, frames=None):
    """Targets by rectangles (x0, y0, x1, y1) on the canvas, of classes 0, 1, ..."""
    masks = torch.zeros(len(rectangles), *CANVAS, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, rectangles):
        mask[y0:y1, x0:x1] = True
    labels = torch.arange(len(rectangles)) % K if labels is None else torch.tensor(labels)
    if frames is not None:
        masks = masks[:, None].repeat(1, frames, 1, 1)
    return {"labels": labels, "masks": masks}


LEFT, RIGHT = (0, 0, 20, 36), (20, 0, 44, 36)


def run(decoder, targets, inputs=None):
    """Run a decoder in training, with the pilots of some targets."""
    torch.manual_seed(1)
    with decoder.train().pilot.show(targets):
        return decoder(*(inputs or make_input(len(targets))))


@torch.no_grad()
def test_other_queries_do_not_see_pilots():
    inputs = make_input(2)
    expected = make_decoder().train()(*inputs)
    targets = [target(LEFT, RIGHT), target()]
    out = run(make_decoder(pilots=Pilots(7)), targets, inputs)
    assert "pilots" not in expected
    for a, b in zip((out, *out["aux_outputs"]), (expected, *expected["aux_outputs"]), strict=True):
        torch.testing.assert_close(a["pred_logits"], b["pred_logits"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(a["pred_masks"], b["pred_masks"], atol=1e-5, rtol=1e-5)
    assert len(out["pilots"].predictions) == 4
    assert out["pilots"].predictions[0]["pred_logits"].shape == (2, 7, K + 1)
    assert out["pilots"].predictions[0]["pred_masks"].shape == (2, 7, 9, 11)


@torch.no_grad()
def test_sets_of_pilots_do_not_see_each_other_and_those_of_a_set_do():
    targets = [target(LEFT, RIGHT)]
    (one, two) = (run(make_decoder(pilots=Pilots(n, **CLEAN)), targets)["pilots"] for n in (2, 5))
    assert two.chosen[0].tolist() == [*one.chosen[0].tolist() * 2, one.chosen[0][0]]
    last, repeated = one.predictions[-1]["pred_masks"], two.predictions[-1]["pred_masks"]
    torch.testing.assert_close(repeated[:, :2], last, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(repeated[:, 2:4], last, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(repeated[:, 4], last[:, 0], atol=1e-3)  # a set of one


@torch.no_grad()
def test_other_queries_are_not_seen():
    decoder = make_decoder(pilots=Pilots(3, **CLEAN))
    before = run(decoder, [target(LEFT)])["pilots"].predictions[-1]["pred_logits"]
    decoder.query_feat.weight.neg_()
    after = run(decoder, [target(LEFT)])["pilots"].predictions[-1]["pred_logits"]
    torch.testing.assert_close(after, before)


@torch.no_grad()
def test_a_pilot_sees_the_pixels_of_its_mask_only():
    decoder = make_decoder(pilots=Pilots(1, **CLEAN))
    maps, features = make_input(1)
    half = (0, 0, 22, 36)  # of the canvas' 44 columns; of a map with three, the middle one stays
    before = run(decoder, [target(half)], (maps, features))["pilots"].predictions[-1]
    changed = [m.clone() for m in maps]
    for m in changed:
        m[..., m.shape[-1] // 2 + 1 :] += 10
    same = run(decoder, [target(half)], (changed, features))["pilots"].predictions[-1]
    torch.testing.assert_close(same["pred_logits"], before["pred_logits"])
    changed[2][..., 0] += 10
    other = run(decoder, [target(half)], (changed, features))["pilots"].predictions[-1]
    assert not torch.allclose(other["pred_logits"], before["pred_logits"], atol=1e-3)


def shown(options, targets, seed=0):
    """The pilots of some targets, and the classes that they start from."""
    torch.manual_seed(seed)
    pilots = PilotQueries(1000, 1, options)
    torch.nn.init.zeros_(pilots.weight)
    with torch.no_grad():
        pilots.weight.copy_(torch.arange(1000)[:, None])
        with pilots.show(targets):
            return pilots.shown, pilots.shown.queries[..., 0].long()


def test_every_target_is_shown_before_any_comes_again():
    few, _ = shown(Pilots(5), [target(LEFT, RIGHT)])
    assert sorted(few.chosen[0][:2].tolist()) == sorted(few.chosen[0][2:4].tolist()) == [0, 1]
    many, _ = shown(Pilots(5), [target(*[LEFT] * 9)])
    assert len(set(many.chosen[0].tolist())) == 5
    others, _ = shown(Pilots(5), [target(*[LEFT] * 9)], seed=1)
    assert many.chosen[0].tolist() != others.chosen[0].tolist()
    again, _ = shown(Pilots(5), [target(*[LEFT] * 9)])
    assert many.chosen[0].tolist() == again.chosen[0].tolist()


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_noise_of_labels(noise):
    _, labels = shown(Pilots(10000, label_noise=noise), [target(LEFT, labels=[7])])
    wrong = (labels != 7).float().mean().item()
    assert wrong == pytest.approx(noise, abs=0.02)


def test_noise_of_points_is_a_fraction_of_the_area():
    half = target((0, 0, 22, 36))
    batch, _ = shown(Pilots(500, point_noise=0.2), [half])
    clean, _ = shown(Pilots(500, point_noise=0.0), [half])
    inside = clean._cells(CANVAS)
    assert torch.equal(inside[0, 0], half["masks"].flatten(1).expand(500, -1))
    changed = batch._cells(CANVAS) ^ inside
    assert changed.float().mean().item() == pytest.approx(0.2 / 2, abs=0.01)
    assert not torch.equal(batch._cells(CANVAS), batch._cells(CANVAS))  # anew in each layer


def test_no_pilot_looks_nowhere_and_small_masks_do_not_vanish():
    clean, _ = shown(Pilots(2, **CLEAN), [target((43, 35, 44, 36)), target((0, 0, 0, 0)), target()])
    cells = clean._cells((2, 3))[:, 0]
    assert cells[0].int().tolist() == [[0, 0, 0, 0, 0, 1]] * 2
    assert cells[1:].all()
    edge, _ = shown(Pilots(1, **CLEAN), [target((0, 0, 18, 36))])  # 3 of a cell's 15 columns
    assert edge._cells((2, 3)).flatten().int().tolist() == [1, 0, 0, 1, 0, 0]
    turned_over, _ = shown(Pilots(1, point_noise=1.0), [target((0, 0, *CANVAS[::-1]))])
    assert turned_over._cells((2, 3)).all()


def test_an_object_has_no_cells_in_frames_without_it():
    clip = target(LEFT, frames=2)
    clip["masks"][:, 1] = False
    clean, _ = shown(Pilots(1, **CLEAN), [clip])
    first, second = clean._cells((2, 3))[0, 0, 0].unflatten(0, (2, 6))
    assert first.any()
    assert not second.any()


@torch.no_grad()
def test_clips():
    decoder = make_decoder(VideoMultiScaleMaskedTransformerDecoder, num_frames=2, pilots=Pilots(3))
    out = run(decoder, [target(LEFT, frames=2), target(frames=2)], make_input(4))
    assert out["pilots"].predictions[-1]["pred_masks"].shape == (2, 3, 2, 9, 11)
    assert out["pred_masks"].shape == (2, Q, 2, 9, 11)


def test_they_add_one_parameter_and_leave_the_others():
    with_pilots, without = make_decoder(pilots=Pilots(3)).state_dict(), make_decoder().state_dict()
    assert with_pilots.pop("pilot.weight").shape == (K, 16)
    assert with_pilots.keys() == without.keys()
    assert all(torch.equal(value, without[name]) for name, value in with_pilots.items())


def test_training_has_their_losses_and_eval_does_not():
    model = tiny_model()
    model.sem_seg_head = head = tiny_head(make_tiny(Pilots(4)))
    model.criterion.weight_dict |= {f"loss_{x}_pilot": 1.0 for x in ("ce", "mask", "dice")}
    instances = tiny_instances(2)
    inputs = [{"image": torch.zeros(3, 64, 64), "instances": x} for x in (instances, instances[:0])]
    losses = model.train()(inputs)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_mask_pilot"] > 0
    assert head.predictor.pilot.weight.grad.abs().sum() > 0
    assert head.predictor.pilot.shown is None
    model.zero_grad()
    empty = model(inputs[1:])
    assert empty["loss_ce_pilot"] == empty["loss_mask_pilot"] == 0
    sum(empty.values()).backward()
    assert all(p.grad is not None for p in head.predictor.parameters())
    assert not any("pilot" in name for name in model.eval().losses(inputs))


def make_tiny(pilots):
    torch.manual_seed(0)
    args = ARGS | {"num_classes": NUM_CLASSES, "hidden_dim": WIDTH, "mask_dim": 16, "dec_layers": 2}
    return MultiScaleMaskedTransformerDecoder(WIDTH, **args, pilots=pilots)


def tiny_instances(count):
    masks = torch.zeros(count, 64, 64, dtype=torch.bool)
    masks[:, 8:40, 8:50] = True
    return Instances((64, 64), gt_classes=torch.arange(count), gt_masks=masks)


@pytest.mark.parametrize("options", [Pilots(-1), Pilots(3, 1.5), Pilots(3, 0.2, -0.1)])
def test_numbers_out_of_range(options):
    with pytest.raises(ValueError, match="QUERIES must be at least 0, LABEL_NOISE and POINT_NOISE"):
        make_decoder(pilots=options)


def test_models_without_a_place_for_them():
    opts = ["MODEL.MASK_FORMER.PILOT.QUERIES", 3, "MODEL.DEVICE", "cpu"]
    config = CONFIGS / "mask-classification/maskformer2_lite0.yaml"
    cfg = load_config(config, [*opts, "MODEL.TIMM.PRETRAINED", ""])
    with pytest.raises(ValueError, match=r"PILOT.QUERIES is 3: only MultiScaleMasked.*EoMTHead"):
        build_model(cfg)


def test_a_head_without_them_is_left_alone():
    with shown_to_pilots(tiny_head(make_tiny(Pilots())), [target()]):
        pass
