"""Services over tiny models of random weights, and photos for them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.predict.page.service import Service, build_predictor
from mask2former.predict.page.uploads import Limits, Photos
from tests.predict.job.tiny import CONFIGS, config

LIMITS = Limits(upload=200_000, pixels=64 * 64, frames=5)
CLASSIFIER = CONFIGS / "mask-classification/maskformer2_lite0.yaml"


def write_photo(path: Path, width: int = 40, height: int = 32) -> Path:
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_photo(tmp_path / "photo.png")


@pytest.fixture(scope="package")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("one.png", "two.png"):
        write_photo(folder / name)
    return Photos(folder)


@pytest.fixture(scope="package")
def service(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Service:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("page")
    return Service(build_predictor(config()), LIMITS, photos, folder)


@pytest.fixture(scope="package")
def naming(tmp_path_factory: pytest.TempPathFactory) -> Service:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("page")
    return Service(build_predictor(config(CLASSIFIER)), LIMITS, Photos(), folder)
