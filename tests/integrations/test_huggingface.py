"""Hugging Face's pipeline takes a converted folder and sees the class that our predictor sees."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former import Predictor
from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.storage.weights_io import save_weights
from tests.checkpoints.bridges.test_huggingface import randomise, small_config

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def test_pipeline_on_a_converted_folder(tmp_path: Path) -> None:
    cfg = small_config("resnet")
    cfg.INPUT.MIN_SIZE_TEST = 128
    weights = tmp_path / "ours.pth"
    save_weights(randomise(convert.build_on_cpu(cfg)).state_dict(), weights)
    convert.ours_to_huggingface(str(weights), tmp_path / "hf", cfg)
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    photo = Image.fromarray(small).resize((192, 128), Image.Resampling.BICUBIC)

    segment = transformers.pipeline("image-segmentation", model=str(tmp_path / "hf"))
    found = segment(photo, subtask="semantic")
    numbers = segment.model.config.label2id
    theirs = np.full((128, 192), -1)
    for entry in found:
        theirs[np.asarray(entry["mask"]) > 0] = numbers[entry["label"]]
    ours = Predictor(cfg, weights)(photo)["sem_seg"].argmax(0).numpy()
    # Random weights see one class everywhere; tests/checkpoints/bridges compares the numbers.
    assert (ours == theirs).mean() > 0.95
