"""A picture and a dataset that several tests of the demo draw on."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.data.datasets import register_all
from mask2former.data.synthetic import write_shapes


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """48 pixels wide, 40 high."""
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three drawn validation images, registered."""
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    root = tmp_path / "datasets"
    write_shapes(root, seed=5, train=1, val=3, size=64, workers=1)
    register_all(str(root))
    return root / "shapes"
