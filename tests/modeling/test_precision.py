"""Eval in bfloat16: near to float32, off by default, and without a say in training."""

from pathlib import Path

import pytest
import torch

from mask2former.config import get_config, load_config
from mask2former.engine import build_model
from mask2former.modeling.postprocessing.mergers import Canvas, SemanticMerger, merge_masks
from tests.modeling.meta_arch.test_image import image, labelled

from .small import tiny_model

BF16 = torch.bfloat16
ROOT = Path(__file__).resolve().parents[2]


def lower(model):
    model.precision = "bf16"
    model.sem_seg_head.pixel_decoder.autocast_in_eval = True
    return model


@torch.no_grad()
def test_outputs_are_near_those_of_float32():
    inputs = [{"image": image(96, 128)}]
    expected = tiny_model().eval()(inputs)[0]["sem_seg"]
    got = lower(tiny_model()).eval()(inputs)[0]["sem_seg"]
    assert got.dtype == torch.float16  # no less precise than its factors, and NumPy knows it
    difference = (got.float() - expected).abs() / expected.abs().mean()
    assert 0 < difference.mean() < 0.02  # three digits of bfloat16, through all layers


def test_semantic_scores_of_bfloat16_factors():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(20, 8, generator=generator)
    masks = torch.randn(20, 4, 6, generator=generator)
    canvas = Canvas((4, 6), (4, 6), (40, 60))
    exact, near = SemanticMerger(classes, (40, 60)), SemanticMerger(classes, (40, 60), BF16)
    with torch.no_grad():
        merge_masks(masks, canvas, [exact, near])
    assert near.result().dtype == torch.float16
    difference = (near.result() - exact.result()).abs().max()
    assert 0 < difference < exact.result().max() / 100


@torch.no_grad()
def test_scores_that_are_resized_after_merging():
    """The published order where semantic output is alone."""
    inputs = [{"image": image(96, 128), "height": 50, "width": 70}]
    results = []
    for model in (tiny_model(), lower(tiny_model())):
        model.sem_seg_postprocess_before_inference = False
        model.panoptic_on = model.instance_on = False
        results.append(model.eval()(inputs)[0]["sem_seg"])
    expected, got = results
    assert got.dtype == torch.float16
    assert got.shape == expected.shape == (expected.shape[0], 50, 70)
    assert 0 < (got.float() - expected).abs().mean() < 0.02 * expected.abs().mean()


@torch.no_grad()
def test_products_are_in_bfloat16_and_sampling_locations_are_not(monkeypatch):
    seen = {}

    def look(value, sizes, locations, weights):
        seen.update(value=value.dtype, locations=locations.dtype)
        return value.new_zeros(*locations.shape[:2], value.shape[2] * value.shape[3])

    monkeypatch.setattr("mask2former.layers.deformable.deformable_attention", look)
    lower(tiny_model()).eval()([{"image": image()}])
    assert seen == {"value": torch.bfloat16, "locations": torch.float32}
    tiny_model().eval()([{"image": image()}])
    assert seen == {"value": torch.float32, "locations": torch.float32}


def test_training_does_not_change():
    inputs = [labelled(file_name="a")]
    expected = tiny_model(point_seed=0)(inputs)
    for name, value in lower(tiny_model(point_seed=0))(inputs).items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize(
    ("config", "value", "expected"),
    [
        ("coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml", "auto", "fp32"),
        ("youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml", "auto", "fp16"),
        ("youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml", "fp32", "fp32"),
        ("youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml", "bf16", "bf16"),
    ],
)
def test_the_default_is_what_was_published(config: str, value: str, expected: str):
    assert get_config().MODEL.MASK_FORMER.TEST.PRECISION == "auto"
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.MASK_FORMER.TEST.PRECISION", value]
    small = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    model = build_model(load_config(ROOT / "configs" / config, [*opts, *small]))
    assert model.precision == expected
    lower = expected == "bf16"  # float16 is not for the pixel decoder, as published
    assert model.sem_seg_head.pixel_decoder.autocast_in_eval == lower


def test_half_precision_is_for_cuda():
    inputs = [{"image": image(96, 128)}]
    model = tiny_model().eval()
    with torch.no_grad():
        expected = model(inputs)[0]["sem_seg"]
        model.precision = "fp16"
        assert torch.equal(model(inputs)[0]["sem_seg"], expected)


def test_unknown_precision():
    with pytest.raises(ValueError, match=r"PRECISION is 'fp8'; it must be one of auto, fp32, bf16"):
        tiny_model(precision="fp8")
