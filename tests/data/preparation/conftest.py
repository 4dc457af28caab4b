"""Where the prepared datasets lie, and what is in their PNG files."""

import numpy as np
import pytest
from PIL import Image

import mask2former.data.datasets as datasets


@pytest.fixture
def root(tmp_path, empty_catalogs):
    """Where the registered datasets are looked for."""
    datasets.register_all(str(tmp_path))
    return tmp_path


def read_png(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def read_ids(path) -> np.ndarray:
    return read_png(path).astype(int) @ (1, 256, 65536)
