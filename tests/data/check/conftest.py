"""Fixtures of the checker's tests."""

from pathlib import Path

import pytest

from mask2former.data.datasets import custom
from tests.data.check.folder import SIZE, Folder, square


@pytest.fixture
def folder(tmp_path: Path, empty_catalogs: None, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(custom, "_REGISTERED", {})
    return Folder(tmp_path)


@pytest.fixture
def coco(folder: Folder) -> Folder:
    """3 photos: with a square and crowd, with a square, with nothing."""
    folder.content = {
        "categories": [{"id": 5, "name": "box"}, {"id": 9, "name": "ball"}],
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
            for i in range(3)
        ],
        "annotations": [square(1, 0, 9), square(2, 0, 5, iscrowd=1), square(3, 1, 9)],
    }
    return folder
