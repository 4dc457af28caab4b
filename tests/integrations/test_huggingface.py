"""Hugging Face's pipeline on a converted folder sees the masks that our predictor sees."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mask2former import Predictor
from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.storage.weights_io import save_weights
from tests.checkpoints.bridges.small_huggingface import randomise, small_config

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

MAX_DIFFERENT = 0.005  # of all pixels; 0.00004 to 0.0002 were seen
SIZE = (128, 192)  # H, W
THRESHOLDS = {"threshold": 0.1, "overlap_mask_area_threshold": 0.2}


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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, photo: Image.Image) -> tuple[Any, Path, Path]:
    """The config, our weights, and the folder that was made of them."""
    folder = tmp_path_factory.mktemp("converted")
    cfg = small_config("resnet")
    cfg.INPUT.MIN_SIZE_TEST = 128
    outputs = cfg.MODEL.MASK_FORMER.TEST
    outputs.SEMANTIC_ON = outputs.PANOPTIC_ON = True
    outputs.OBJECT_MASK_THRESHOLD, outputs.OVERLAP_THRESHOLD = THRESHOLDS.values()
    cfg.MODEL.CLASSES.NAMES = ["cat", "dog", "sky", "sea", "sand"]
    cfg.MODEL.CLASSES.THING_IDS = [0, 1]
    weights, model = folder / "ours.pth", randomise(convert.build_on_cpu(cfg))
    spread(model, photo)
    save_weights(model.state_dict(), weights)
    convert.ours_to_huggingface(str(weights), folder / "hf", cfg)
    return cfg, weights, folder / "hf"


def classes_of_pipeline(folder: Path, photo: Image.Image, subtask: str, **opts: Any) -> np.ndarray:
    """The class of each pixel, -1 for none."""
    segment = transformers.pipeline("image-segmentation", model=str(folder))
    classes = np.full(SIZE, -1)
    for entry in segment(photo, subtask=subtask, **opts):
        label = segment.model.config.label2id[entry["label"]]
        classes[np.asarray(entry["mask"]) > 0] = label
    return classes


def require_meaning(classes: np.ndarray) -> None:
    """Check that there are three classes, so that there was something to decide."""
    _, areas = np.unique(classes[classes >= 0], return_counts=True)
    assert len(areas) > 2 and np.sort(areas)[-3] > 0.02 * classes.size


def test_semantic_masks_of_the_pipeline_are_ours(
    files: tuple[Any, Path, Path], photo: Image.Image
) -> None:
    cfg, weights, folder = files
    theirs = classes_of_pipeline(folder, photo, "semantic")
    ours = Predictor(cfg, weights)(photo)["sem_seg"].argmax(0).numpy()
    require_meaning(ours)
    assert (ours != theirs).mean() < MAX_DIFFERENT


def test_panoptic_masks_of_the_pipeline_differ_by_two_rules(
    files: tuple[Any, Path, Path], photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs compares the pixels that a query won with those where its *score times* mask reaches
    the threshold, and gives a segment all that it won. With the published rules in their place
    the masks are ours; as they are, many pixels of random weights are not."""
    cfg, weights, folder = files
    ids, segments = Predictor(cfg, weights)(photo)["panoptic_seg"]
    ours = np.full(SIZE, -1)
    for segment in segments:
        ours[ids.numpy() == segment["id"]] = segment["category_id"]
    require_meaning(ours)
    module = transformers.models.mask2former.image_processing_mask2former
    merge, scores = module.compute_segments, []

    def noting(*args: Any, pred_scores: torch.Tensor, **kwargs: Any) -> Any:
        scores[:] = pred_scores.tolist()
        return merge(*args, pred_scores=pred_scores, **kwargs)

    def published(winners: Any, weighted: Any, k: int, threshold: float, overlap: float) -> Any:
        own, won = weighted[k] / scores[k] >= threshold, winners == k
        seen = (own & won).any() and won.sum() / own.sum() >= overlap
        return seen, own & won

    as_it_is = classes_of_pipeline(folder, photo, "panoptic", **THRESHOLDS)
    monkeypatch.setattr(module, "compute_segments", noting)
    monkeypatch.setattr(module, "check_segment_validity", published)
    by_our_rules = classes_of_pipeline(folder, photo, "panoptic", **THRESHOLDS)
    assert (ours != by_our_rules).mean() < MAX_DIFFERENT < (ours != as_it_is).mean()
