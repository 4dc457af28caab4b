"""A tiny model with its files, a photo, a video and results, in the folder that the test is in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former import Predictor
from mask2former.checkpoints.storage.weights_io import save_weights
from mask2former.formats.rle import encode_masks
from mask2former.modeling.build import build_model
from mask2former.results.files import PredictionFiles
from tests.predict.job.test_videos import write_video
from tests.predict.job.tiny import config
from tests.predict.page.conftest import write_photo


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.yaml, model_final.pth, street.jpg, clip.mp4, truth.json, results."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(3)
    cfg = config()
    weights = build_model(cfg).state_dict()
    weights["sem_seg_head.predictor.class_embed.weight"] *= 50  # so that some scores are high
    save_weights(weights, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "photos").mkdir()
    write_photo(folder / "street.jpg", 64, 48)
    write_photo(folder / "photos/street.jpg", 64, 48)
    write_video(folder / "clip.mp4", frames=3)
    return folder


@pytest.fixture(scope="session")
def predictor(files: Path) -> Predictor:
    cfg = config()
    return Predictor(cfg, files / "model_final.pth", array_format="RGB")


@pytest.fixture(scope="session")
def results(files: Path, predictor: Predictor) -> Path:
    """The same folder with the results of the photo and a truth for it."""
    found = predictor(files / "street.jpg")
    writer = PredictionFiles(files / "results", predictor.metadata)
    writer.add("street.jpg", found)
    writer.write()
    box = np.zeros((1, 48, 64), bool)
    box[0, 10:30, 5:45] = True
    (rle,) = encode_masks(box)
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 800}
    truth = {
        "images": [{"id": 1, "file_name": "street.jpg", "width": 64, "height": 48}],
        "annotations": [annotation | {"bbox": [5, 10, 40, 20], "segmentation": rle}],
        "categories": [
            {"id": i, "name": name}
            for i, name in enumerate(predictor.metadata.stuff_classes, start=1)
        ],
    }
    (files / "truth.json").write_text(json.dumps(truth))
    return files


@pytest.fixture(autouse=True)
def max_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Pillow's limit for the tests after these: SAHI lifts it in the whole process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
