"""Averages over flips and scales, by a model whose answer is known."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data.transforms import HFlipTransform, NoOpTransform, TransformList
from PIL import Image
from torch import nn

from mask2former.modeling.postprocessing.tta import SemanticSegmentorWithTTA


class Echo(nn.Module):
    """Scores that tell the image: its channels, at the output size; notes what it was asked."""

    def __init__(self, semantic_on=True):
        super().__init__()
        self.semantic_on, self.panoptic_on, self.instance_on = semantic_on, True, True
        self.calls = []

    def forward(self, batched_inputs):
        self.calls.append(
            [
                (tuple(x["image"].shape[1:]), self.panoptic_on, self.instance_on)
                for x in batched_inputs
            ]
        )
        return [
            {
                "sem_seg": nn.functional.interpolate(
                    x["image"][None].float(), (x["height"], x["width"]), mode="bilinear"
                )[0]
            }
            for x in batched_inputs
        ]


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.TEST.AUG.MIN_SIZES = [8, 16]
    cfg.TEST.AUG.MAX_SIZE = 100
    cfg.TEST.AUG.FLIP = True
    cfg.INPUT.FORMAT = "RGB"
    return cfg


def ramp(height=8, width=16):
    """Columns that grow to the right: a flip that is not undone shows."""
    return (torch.arange(width, dtype=torch.float32) * 10).expand(3, height, width).contiguous()


def test_flips_are_undone_and_scores_averaged(cfg):
    model = Echo()
    out = SemanticSegmentorWithTTA(cfg, model)([{"image": ramp(), "height": 8, "width": 16}])
    (result,) = out
    assert list(result) == ["sem_seg"]
    # Both scales and flips give the ramp back but for its ends, where resizing flattens it.
    torch.testing.assert_close(result["sem_seg"][..., 2:-2], ramp()[..., 2:-2], rtol=0, atol=0.5)
    assert [call[0][0] for call in model.calls] == [(8, 16), (8, 16), (16, 32), (16, 32)]


def test_mean_by_hand():
    """Two copies, one flipped, with other scores: (1 + 4) / 2 and (2 + 3) / 2."""
    scores = iter([torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0]]])])

    def mapper(x):
        return [
            {**x, "transforms": TransformList([t])} for t in (NoOpTransform(), HFlipTransform(2))
        ]

    class Model(nn.Module):
        def forward(self, batched_inputs):
            return [{"sem_seg": next(scores)} for _ in batched_inputs]

    tta = SemanticSegmentorWithTTA(model=Model(), tta_mapper=mapper)
    assert tta([{"image": torch.zeros(3, 1, 2)}])[0]["sem_seg"].tolist() == [[[2.5, 2.5]]]


def test_other_outputs_are_off_meanwhile_and_on_again_after(cfg):
    model = Echo()
    SemanticSegmentorWithTTA(cfg, model)([{"image": ramp()}])
    assert all(not panoptic and not instance for c in model.calls for _, panoptic, instance in c)
    assert model.panoptic_on and model.instance_on


def test_batch_size_counts(cfg):
    model = Echo()
    one = SemanticSegmentorWithTTA(cfg, model)([{"image": ramp()}])[0]["sem_seg"]
    model.calls.clear()
    three = SemanticSegmentorWithTTA(cfg, model, batch_size=3)([{"image": ramp()}])[0]["sem_seg"]
    assert [len(call) for call in model.calls] == [3, 1]
    torch.testing.assert_close(one, three)


def test_images_are_read_in_the_format_of_the_config(cfg, tmp_path):
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[..., 0] = 200  # red
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cfg.INPUT.FORMAT = "BGR"
    tta = SemanticSegmentorWithTTA(cfg, Echo())
    out = tta([{"file_name": str(tmp_path / "a.png")}])[0]["sem_seg"]
    assert out.shape == (3, 8, 12)
    assert out.amax((1, 2)).tolist() == [0, 0, 200]


def test_output_size_may_differ_from_the_image(cfg):
    out = SemanticSegmentorWithTTA(cfg, Echo())([{"image": ramp(), "height": 20, "width": 40}])
    assert out[0]["sem_seg"].shape == (3, 20, 40)


def test_very_thin_images_keep_a_pixel(cfg):
    model = Echo()
    image = {"image": torch.zeros(3, 1, 10000, dtype=torch.uint8), "height": 1, "width": 10000}
    SemanticSegmentorWithTTA(cfg, model)([image])
    assert all(min(size) >= 1 for calls in model.calls for size, *_ in calls)


def test_models_without_semantic_output_are_refused(cfg):
    with pytest.raises(ValueError, match="SEMANTIC_ON"):
        SemanticSegmentorWithTTA(cfg, Echo(semantic_on=False))
    with pytest.raises(ValueError, match="batch_size of at least 1, got 0"):
        SemanticSegmentorWithTTA(cfg, Echo(), batch_size=0)


def test_scores_of_16_bits_are_added_up_in_32(cfg):
    class Half(Echo):
        def forward(self, batched_inputs):
            return [{"sem_seg": x["sem_seg"].half()} for x in super().forward(batched_inputs)]

    (result,) = SemanticSegmentorWithTTA(cfg, Half())([{"image": ramp(), "height": 8, "width": 16}])
    (expected,) = SemanticSegmentorWithTTA(cfg, Echo())(
        [{"image": ramp(), "height": 8, "width": 16}]
    )
    assert result["sem_seg"].dtype == torch.float32
    torch.testing.assert_close(result["sem_seg"], expected["sem_seg"], rtol=1e-3, atol=0)


def test_a_subclass_may_replace_the_steps(cfg):
    class OneCopy(SemanticSegmentorWithTTA):
        def _get_augmented_inputs(self, x):
            copies, changes = super()._get_augmented_inputs(x)
            return copies[:1], changes[:1]

    class Ones(SemanticSegmentorWithTTA):
        def _inference_one_image(self, x):
            return {"sem_seg": torch.ones(1)}

    model = Echo()
    OneCopy(cfg, model)([{"image": ramp()}])
    assert len(model.calls) == 1
    assert Ones(cfg, model)([{"image": ramp()}])[0]["sem_seg"] == 1
