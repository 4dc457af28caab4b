"""Hugging Face's pipeline on a converted folder sees the masks that our predictor sees."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mask2former import Predictor
from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.storage.weights_io import save_weights
from tests.checkpoints.bridges.test_huggingface import randomise, small_config

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

MAX_DIFFERENT = 0.005  # of all pixels; 0.00004 to 0.0002 were seen
SIZE = (128, 192)  # H, W


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize(SIZE[::-1], Image.Resampling.BICUBIC)


@torch.no_grad()
def spread(model: nn.Module, photo: Image.Image) -> None:
    """Change random weights, whose queries are all alike, so that they differ in class and mask."""
    head = model.sem_seg_head.predictor
    pixels = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).copy())
    for _ in range(4):
        kept: list[torch.Tensor] = []
        hook = head.mask_embed.register_forward_hook(lambda m, args, out, to=kept: to.append(out))
        found = model.eval().predict(model.preprocess([pixels]).tensor)
        hook.remove()
        centre(head.class_embed, found["pred_logits"], found["pred_logits"][0].std(0).mean())
        centre(head.mask_embed.layers[-1], kept[-1], found["pred_masks"].std())


def centre(layer: nn.Linear, results: torch.Tensor, deviation: torch.Tensor) -> None:
    """Let a layer's results have a mean of zero, and what is made of them a deviation of four."""
    factor = 4 / deviation
    layer.bias.sub_(results.flatten(0, -2).mean(0)).mul_(factor)
    layer.weight.mul_(factor)


def test_masks_of_the_pipeline_are_ours(tmp_path: Path, photo: Image.Image) -> None:
    cfg = small_config("resnet")
    cfg.INPUT.MIN_SIZE_TEST = 128
    weights, model = tmp_path / "ours.pth", randomise(convert.build_on_cpu(cfg))
    spread(model, photo)
    save_weights(model.state_dict(), weights)
    convert.ours_to_huggingface(str(weights), tmp_path / "hf", cfg)

    segment = transformers.pipeline("image-segmentation", model=str(tmp_path / "hf"))
    numbers = segment.model.config.label2id
    theirs = np.full(SIZE, -1)
    for entry in segment(photo, subtask="semantic"):
        theirs[np.asarray(entry["mask"]) > 0] = numbers[entry["label"]]
    ours = Predictor(cfg, weights)(photo)["sem_seg"].argmax(0).numpy()
    classes, areas = np.unique(ours, return_counts=True)
    assert len(classes) > 2 and np.sort(areas)[-3] > 0.05 * ours.size  # masks that mean something
    assert (ours != theirs).mean() < MAX_DIFFERENT
