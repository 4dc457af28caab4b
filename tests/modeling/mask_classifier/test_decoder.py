"""Queries of given masks: what they see, what they do not depend on, whose weights fit."""

import pytest
import torch

from mask2former.modeling.mask_classifier.decoder import pooled_features
from mask2former.modeling.mask_classifier.given_masks import mask_coverage
from tests.modeling.mask_classifier.small import rectangles, tiny_decoder
from tests.modeling.small import NUM_CLASSES, WIDTH, tiny_model

SIZE = (64, 96)  # of the canvas
MASKS = rectangles((0, 0, 32, 32), (32, 32, 96, 64), (40, 8, 43, 10), size=SIZE)


def coverage() -> torch.Tensor:
    return mask_coverage(MASKS, SIZE, SIZE, (16, 24))[None]


def maps(seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Maps of strides 32, 16 and 8, and mask features of stride 4."""
    generator = torch.Generator().manual_seed(seed)
    x = [torch.randn(1, WIDTH, 64 // s, 96 // s, generator=generator) for s in (32, 16, 8)]
    return x, torch.randn(1, 16, 16, 24, generator=generator)


def test_outputs_of_every_layer():
    out = tiny_decoder()(*maps(), coverage())
    assert out["pred_logits"].shape == (1, 3, NUM_CLASSES + 1)
    assert [a["pred_logits"].shape for a in out["aux_outputs"]] == [(1, 3, 4)] * 4
    assert "aux_outputs" not in tiny_decoder()(*maps(), coverage(), aux_outputs=False)


@torch.no_grad()
def test_a_query_sees_nothing_outside_of_its_mask():
    decoder = tiny_decoder().eval()
    x, fine = maps()
    before = decoder(x, fine, coverage())["pred_logits"][0]
    changed = [m.clone() for m in x]
    for m, stride in zip(changed, (32, 16, 8)):
        m[:, :, 32 // stride :, 32 // stride :] += 3  # the second mask and nothing else
    fine = fine.clone()
    fine[:, :, 8:, 8:] += 3
    after = decoder(changed, fine, coverage())["pred_logits"][0]
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert (after[1] - before[1]).abs().max() > 0.1


@torch.no_grad()
def test_a_mask_does_not_depend_on_the_other_masks():
    decoder = tiny_decoder().eval()
    together = decoder(*maps(), coverage())["pred_logits"][0]
    for i in range(3):
        alone = decoder(*maps(), coverage()[:, i : i + 1])["pred_logits"][0, 0]
        torch.testing.assert_close(alone, together[i])


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    decoder = tiny_decoder().eval()
    (a, fine_a), (b, fine_b) = maps(0), maps(1)
    both = [torch.cat(pair) for pair in zip(a, b)]
    memory = decoder.encode(both, torch.cat([fine_a, fine_b]))
    for i, alone in enumerate((decoder(a, fine_a, coverage()), decoder(b, fine_b, coverage()))):
        found = decoder.classify(memory.of_image(i), coverage())[-1]
        torch.testing.assert_close(found, alone["pred_logits"])


@torch.no_grad()
def test_an_empty_mask_gives_numbers():
    nothing = torch.zeros(1, 1, 16, 24)
    assert tiny_decoder()(*maps(), nothing)["pred_logits"].isfinite().all()


def test_every_parameter_gets_a_gradient():
    decoder = tiny_decoder()
    out = decoder(*maps(), coverage())
    sum(x["pred_logits"].square().sum() for x in [out, *out["aux_outputs"]]).backward()
    without = {n for n, p in decoder.named_parameters() if p.grad is None}
    assert without == set()


def test_weights_of_a_decoder_that_finds_masks_fit():
    theirs = tiny_model().sem_seg_head.predictor.state_dict()
    decoder = tiny_decoder(dec_layers=2)
    report = decoder.load_state_dict(theirs, strict=False)
    new = {f"{n}.{p}" for n in ("query_init", "query_position") for p in ("weight", "bias")}
    assert set(report.missing_keys) == new
    gone = ("query_feat", "query_embed", "mask_embed")
    assert all(key.startswith(gone) for key in report.unexpected_keys)


def test_two_maps_are_refused():
    x, fine = maps()
    with pytest.raises(ValueError, match="expected 3 maps .* got 2"):
        tiny_decoder()(x[:2], fine, coverage())


def test_pooled_features_by_hand():
    features = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [5.0, 60.0]]])
    coverage = torch.tensor([[[1.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[2.0, 15.0], [4.0, 47.5], [0.0, 0.0]]])
    torch.testing.assert_close(pooled_features(coverage, features), expected)
