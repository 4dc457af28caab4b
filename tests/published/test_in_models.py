"""Decoders that inherit from the published ones, inside of our models: trained and evaluated."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mask2former.modeling import TRANSFORMER_DECODER_REGISTRY
from mask2former.published.decoders import (
    MultiScaleMaskedTransformerDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)
from tests.modeling.meta_arch.test_image import image, labelled
from tests.modeling.meta_arch.test_video import clip
from tests.modeling.small import NUM_CLASSES, NUM_QUERIES, WIDTH, tiny_model, tiny_video_model
from tests.published.frame_decoder import FrameDecoder

ARGS = {
    "num_classes": NUM_CLASSES,
    "hidden_dim": WIDTH,
    "num_queries": NUM_QUERIES,
    "nheads": 4,
    "dim_feedforward": 32,
    "dec_layers": 2,
    "pre_norm": False,
    "mask_dim": 16,
    "enforce_input_project": False,
}


def counting(kind: type) -> type:
    """A subclass that counts its predictions."""

    class Counting(kind):
        calls = 0

        def forward_prediction_heads(self, *args, **kwargs):
            self.calls += 1
            return super().forward_prediction_heads(*args, **kwargs)

    return Counting


CASES = {
    "image": (tiny_model, MultiScaleMaskedTransformerDecoder, {}, labelled(), {"image": image()}),
    "video": (
        tiny_video_model,
        VideoMultiScaleMaskedTransformerDecoder,
        {"num_frames": 2},
        clip(),
        {"image": [image(seed=s) for s in (0, 1, 2)], "height": 40, "width": 56},
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    """Our model, the same with a decoder from outside, and what they train on and are asked."""
    make, kind, more, sample, question = request.param
    ours, theirs = make(point_seed=0), make(point_seed=0)
    decoder = counting(kind)(WIDTH, **ARGS, **more)
    theirs.sem_seg_head.predictor = decoder
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, sample, question


def test_training(case):
    ours, theirs, sample, _ = case
    expected, losses = ours([sample]), theirs([sample])
    assert losses.keys() == expected.keys() and len(losses) == 9
    for name, loss in losses.items():
        assert_close(loss, expected[name], rtol=1e-4, atol=1e-5)
    sum(losses.values()).backward()
    unused = [n for n, p in theirs.named_parameters() if p.grad is None]
    assert unused == []
    assert theirs.sem_seg_head.predictor.calls == 3


def test_frames_are_trained_as_clips_of_one():
    """As trackers of frames do it: axes (frames, Q, 1, H, W), and targets of each frame."""
    torch.manual_seed(0)
    model = tiny_video_model()
    decoder = FrameDecoder(WIDTH, **ARGS, num_frames=1, reid_dim=4)
    model.sem_seg_head.predictor = decoder
    out = model.sem_seg_head(model.backbone(torch.randn(4, 3, 64, 64)))
    for layer in (out, *out["aux_outputs"]):  # as their meta-architectures put the frames
        assert layer["pred_masks"].shape == (4, NUM_QUERIES, 1, 16, 16)
        layer["pred_logits"] = layer["pred_logits"].flatten(0, 1)
    labels = [torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([], dtype=torch.long)]
    targets = [{"labels": x, "masks": torch.rand(len(x), 1, 64, 64) < 0.5} for x in labels]
    losses = model.criterion(out, [*targets, targets[0]])
    sum(losses.values()).backward()
    assert len(losses) == 9 and decoder.query_feat.weight.grad.any()


@torch.no_grad()
def test_evaluation(case):
    ours, theirs, _, question = case
    expected, result = (model.eval()([question]) for model in (ours, theirs))
    assert theirs.sem_seg_head.predictor.calls == 3
    if isinstance(result, dict):
        assert_close(result["pred_scores"], expected["pred_scores"], rtol=1e-4, atol=1e-5)
        assert result["pred_labels"] == expected["pred_labels"]
        return
    assert_close(result[0]["sem_seg"], expected[0]["sem_seg"], rtol=1e-4, atol=1e-4)
    assert torch.equal(result[0]["panoptic_seg"][0], expected[0]["panoptic_seg"][0])


def test_the_registry_knows_it_under_its_own_name():
    own = counting(MultiScaleMaskedTransformerDecoder)
    own.__name__ = "CountingDecoderOfATest"
    TRANSFORMER_DECODER_REGISTRY.register(own)
    assert TRANSFORMER_DECODER_REGISTRY.get("CountingDecoderOfATest") is own


@torch.no_grad()
def test_another_vocabulary_in_a_model_that_is_built():
    """As open vocabulary models do: head, classifier and metadata are changed between images."""
    model = tiny_model(metadata=SimpleNamespace(thing_dataset_id_to_contiguous_id={3: 1})).eval()
    model.sem_seg_head.num_classes = 2
    model.sem_seg_head.predictor.class_embed = nn.Linear(WIDTH, 3)
    model.sem_seg_head.predictor.class_embed.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    model.object_mask_threshold = model.overlap_threshold = 0.0
    (result,) = model([{"image": image()}])
    assert result["sem_seg"].shape[0] == 2
    assert {(s["category_id"], s["isthing"]) for s in result["panoptic_seg"][1]} == {(1, True)}
    assert set(result["instances"].pred_classes.tolist()) == {1}
    model.metadata = SimpleNamespace(thing_dataset_id_to_contiguous_id={})
    model.semantic_on, model.test_topk_per_image = False, 2
    (result,) = model([{"image": image()}])
    assert result.keys() == {"panoptic_seg", "instances"} and len(result["instances"]) == 0
    assert [s["isthing"] for s in result["panoptic_seg"][1]] == [False]


@pytest.mark.parametrize("part", ["sem_seg_head", "sem_seg_head.predictor"])
def test_forward_that_is_patched_on_an_object(part):
    """With the published arguments, which lack that for auxiliary outputs."""
    model, calls = tiny_model(), []
    module = model.get_submodule(part)
    original = module.forward

    def patched(x, mask_features=None, mask=None):
        calls.append(part)
        return original(x) if mask_features is None else original(x, mask_features, mask)

    module.forward = patched
    model([labelled()])
    with torch.no_grad():
        model.eval()([{"image": image()}])
    assert calls == [part] * 2


def test_whole_numbers_as_mean_of_the_pixels():
    model = tiny_model(pixel_mean=[1, 2, 3], pixel_std=torch.ones(3))
    assert model.pixel_mean.dtype == model.pixel_std.dtype == torch.float32
    assert model.pixel_mean.flatten().tolist() == [1, 2, 3]
