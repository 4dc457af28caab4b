"""Fixtures of the data tests."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.data.datasets import catalog


@pytest.fixture
def empty_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """detectron2's catalogs, without any dataset until the test is over."""
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    monkeypatch.setattr(catalog, "_OURS", {})


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small shapes dataset in it: 10 training and 4 validation images."""
    from mask2former.data.synthetic import write_shapes

    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root, seed=5, train=10, val=4, size=64, workers=1)
    return root
