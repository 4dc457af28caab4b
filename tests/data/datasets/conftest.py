"""Entries of one's own datasets, one of each task."""

import json

import pytest
from PIL import Image

from tests.data.datasets.own import SHAPES


@pytest.fixture
def instance(shapes_root) -> dict:
    folder = shapes_root / "shapes"
    return {
        "name": "mine_instance",
        "task": "instance",
        "image_root": str(folder / "images" / "train"),
        "annotations": str(folder / "annotations" / "instances_train.json"),
    }


@pytest.fixture
def panoptic(shapes_root) -> dict:
    folder = shapes_root / "shapes"
    return {
        "name": "mine_panoptic",
        "task": "panoptic",
        "image_root": str(folder / "images" / "train"),
        "annotations": str(folder / "annotations" / "panoptic_train.json"),
        "panoptic_root": str(folder / "panoptic_train"),
    }


@pytest.fixture
def sem_seg(shapes_root) -> dict:
    folder = shapes_root / "shapes"
    return {
        "name": "mine_sem_seg",
        "task": "sem_seg",
        "image_root": str(folder / "images" / "train"),
        "sem_seg_root": str(folder / "sem_seg_train"),
        "classes": SHAPES,
    }


@pytest.fixture
def video(tmp_path) -> dict:
    """Two videos of 3 and 1 frames; category ids 7 and 3, in that order."""
    content = {
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "videos": [
            {"id": 1, "height": 4, "width": 6, "length": 3, "file_names": ["a/0.jpg"] * 3},
            {"id": 5, "height": 4, "width": 6, "length": 1, "file_names": ["b/0.jpg"]},
        ],
        "annotations": [
            {
                "id": 9,
                "video_id": 1,
                "category_id": 7,
                "iscrowd": 0,
                "bboxes": [[0, 0, 2, 2], None, [1, 1, 2, 2]],
                "segmentations": [[[0, 0, 2, 0, 2, 2]], None, {"size": [4, 6], "counts": [24]}],
                "areas": [2, None, 0],
            }
        ],
    }
    path = tmp_path / "video.json"
    path.write_text(json.dumps(content))
    frames = tmp_path / "JPEGImages"
    for name in ("a", "b"):
        (frames / name).mkdir(parents=True)
        Image.new("RGB", (6, 4)).save(frames / name / "0.jpg")
    entry = {"name": "mine_video", "task": "video", "image_root": str(frames)}
    return {**entry, "annotations": str(path)}
