"""Numbers at their limits: sizes, counts, values that are no numbers, and 16 bits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import BitMasks, Instances
from torch import nn

from mask2former.config import load_config
from mask2former.engine import build_model
from mask2former.errors import SHOWN
from mask2former.modeling import HungarianMatcher, SetCriterion
from tests.modeling.criterion.test_criterion import make_criterion
from tests.modeling.small import NUM_CLASSES, NUM_QUERIES, tiny_model

CONFIG = "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "FrozenBN",
    # Two channels a group: a map of one pixel has a mean and a variance then.
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 64,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": NUM_CLASSES,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": NUM_QUERIES,
    "MODEL.MASK_FORMER.DEC_LAYERS": 3,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 112,
    "MODEL.CLASSES.NAMES": [f"class {i}" for i in range(NUM_CLASSES)],
    "MODEL.CLASSES.THING_IDS": [0],
}

SIZES = ((1, 1), (1, 10_000), (10_000, 1), (2, 3), (31, 33), (64, 64))
ODD = (math.nan, math.inf, -math.inf, 65504.0, -65504.0, 1e38, -1e38, 1e-45, 0.0, -0.0)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    path = Path(__file__).resolve().parents[2] / CONFIG
    return build_model(load_config(path, [word for pair in SMALL.items() for word in pair]))


def tried(torture, promise: str, cases: list[tuple[str, Callable[[], Any]]]) -> None:
    """Call each case, and record those that fail."""
    failures = []
    for name, case in cases:
        try:
            case()
        except SHOWN:
            pass
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    torture.record("Numbers", promise, len(cases), failures)


def image(size: tuple[int, int], value: float | None = None) -> torch.Tensor:
    pixels = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(1))
    return pixels.to(torch.uint8) if value is None else torch.full((3, *size), value)


def labelled(size: tuple[int, int], masks: torch.Tensor, value: float | None = None) -> dict:
    classes = torch.arange(len(masks)) % NUM_CLASSES
    instances = Instances(size, gt_classes=classes, gt_masks=BitMasks(masks).tensor)
    return {
        "image": image(size, value),
        "instances": instances,
        "height": size[0],
        "width": size[1],
    }


def pixels_of(rng: random.Random, count: int, size: tuple[int, int], area: int) -> torch.Tensor:
    """Return masks (count, H, W) of so many pixels each."""
    masks = torch.zeros(count, size[0] * size[1], dtype=torch.bool)
    for mask in masks:
        mask[rng.sample(range(len(mask)), min(area, len(mask)))] = True
    return masks.view(count, *size)


def test_images_of_all_sizes(torture) -> None:
    model = small_model().eval()

    def predict(size: tuple[int, int], value: float | None) -> None:
        with torch.no_grad():
            (out,) = model([{"image": image(size, value), "height": size[0], "width": size[1]}])
        assert out["sem_seg"].shape[1:] == size and out["panoptic_seg"][0].shape == size
        assert out["instances"].pred_masks.shape[1:] == size

    values = (None, math.nan, math.inf, -1e38)
    cases = [
        (f"{size} of {v}", lambda s=size, v=v: predict(s, v)) for size in SIZES for v in values
    ]
    if not torture.long:
        cases = random.Random(torture.seed).sample(cases, 6)
    tried(torture, "images of 1x1 to 1x10000, and of values that are no numbers", cases)


def test_training_of_all_sizes_and_counts(torture) -> None:
    rng = random.Random(torture.seed)
    model = small_model().train()

    def train(size: tuple[int, int], count: int, area: int) -> None:
        losses = model([labelled(size, pixels_of(rng, count, size, area))])
        assert all(torch.isfinite(loss) for loss in losses.values()), losses
        sum(losses.values()).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        model.zero_grad()

    cases = [
        (f"{size}, {count} of {area}", lambda s=size, c=count, a=area: train(s, c, a))
        for size in SIZES
        for count, area in ((0, 1), (1, 1), (3, 0), (NUM_QUERIES + 1, 1), (500, 1))
    ]
    if not torture.long:
        cases = rng.sample(cases, 4)
    tried(torture, "0 to 500 targets of no pixel, one, or all: finite losses and gradients", cases)


def test_weights_that_are_no_numbers(torture) -> None:
    def spoil(value: float) -> None:
        model = tiny_model().eval()
        for parameter in model.sem_seg_head.predictor.parameters():
            parameter.data.fill_(value)
        with torch.no_grad():
            model([{"image": image((40, 48)), "height": 40, "width": 48}])

    cases = [(f"weights of {value}", lambda v=value: spoil(v)) for value in ODD]
    tried(torture, "weights that are no numbers: predictions, or a clear error", cases)


@pytest.mark.parametrize("classes", [1, 3000])
def test_any_number_of_classes(torture, classes: int) -> None:
    def losses_of(count: int) -> None:
        criterion = make_criterion()
        criterion = SetCriterion(
            classes,
            matcher=criterion.matcher,
            weight_dict=criterion.weight_dict,
            eos_coef=0.1,
            losses=["labels", "masks"],
            num_points=32,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
        )
        outputs = {
            "pred_logits": torch.randn(1, 4, classes + 1),
            "pred_masks": torch.randn(1, 4, 8, 8),
        }
        labels = torch.arange(count) % classes
        masks = torch.rand(count, 8, 8) > 0.5
        losses = criterion(outputs, [{"labels": labels, "masks": masks}])
        assert all(math.isfinite(loss) for loss in losses.values()), losses

    cases = [(f"{count} targets", lambda c=count: losses_of(c)) for count in (0, 1, 4, 5, 500)]
    tried(torture, f"a model of {classes} classes", cases)


def test_matching_of_anything(torture) -> None:
    """Whatever the values, the pairs are pairs: each query and each target at most once."""
    rng = random.Random(torture.seed)
    matcher = HungarianMatcher(2.0, 5.0, 5.0, num_points=16)

    def match(number: int) -> None:
        torch.manual_seed(number)
        queries, count, classes = rng.randint(1, 9), rng.choice((0, 1, 3, 20)), rng.choice((1, 5))
        kind = rng.choice((torch.float32, torch.float16, torch.bfloat16))
        logits = torch.randn(1, queries, classes + 1) * rng.choice((1, 1e4))
        masks = torch.randn(1, queries, 5, 7) * rng.choice((1, 1e4))
        for values in (logits, masks):
            for _ in range(rng.choice((0, 1, 5, 50))):
                values.view(-1)[rng.randrange(values.numel())] = rng.choice(ODD)
        target = {
            "labels": torch.randint(classes, (count,)),
            "masks": torch.rand(count, 5, 7) > 0.5,
        }
        outputs = {"pred_logits": logits.to(kind), "pred_masks": masks.to(kind)}
        ((chosen, targets),) = matcher(outputs, [target])
        assert len(chosen) == len(targets) == min(queries, count)
        assert len(set(chosen.tolist())) == len(set(targets.tolist())) == len(chosen)
        assert all(0 <= i < queries for i in chosen) and all(0 <= i < count for i in targets)

    cases = [(f"number {n}", lambda n=n: match(n)) for n in range(torture.scaled(100))]
    tried(torture, "matching of values at the limits of 16 and 32 bits: each at most once", cases)
