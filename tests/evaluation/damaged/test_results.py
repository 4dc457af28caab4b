"""Result files that are json, but not of the form: errors that name the entry and the problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mask2former.data import register
from mask2former.errors import UserError
from mask2former.evaluation import coco_average_precision, evaluate_ytvis, pq_compute, semantic_pq
from mask2former.formats.label_maps import write_panoptic_png

SIZE = (4, 6)
RLE = {"size": [4, 6], "counts": [24]}
CLASSES = [{"id": 1, "name": "a", "isthing": 1}]


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def panoptic(tmp_path: Path) -> dict[str, Any]:
    write_panoptic_png(tmp_path / "1.png", np.ones(SIZE, int))
    segments = [{"id": 1, "category_id": 1, "iscrowd": 0}]
    entry = {"image_id": 1, "file_name": "1.png", "segments_info": segments}
    return {"categories": CLASSES, "annotations": [entry]}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (None, 7, "annotations: expected a list, got int"),
        ("file_name", 0.5, "annotation number 0: file_name: expected text, got 0.5"),
        ("segments_info", 3, "segments: expected a list, got int"),
        ("segments_info", [1.5], "segment number 0: expected an object"),
        ("segments_info", [{"id": 1, "category_id": 10**30}], "category_id: expected a whole"),
        ("segments_info", [{"id": 10**300, "category_id": 1}], "id: expected a whole number"),
    ],
)
def test_panoptic(panoptic, tmp_path, key, value, message) -> None:
    truth = written(tmp_path / "truth.json", panoptic)
    guess = {"annotations": value if key is None else [panoptic["annotations"][0] | {key: value}]}
    results = written(tmp_path / "guess.json", guess)
    with pytest.raises(UserError, match=message):
        pq_compute(truth, results, tmp_path, tmp_path, num_workers=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentations": 5}, "entry 0: segmentations: expected a list, got int"),
        ({"segmentations": None}, "entry 0: segmentations: expected a list, got NoneType"),
        ({"areas": 5}, "entry 0: areas: expected a list, got int"),
        ({"category_id": {}}, "entry 0: category_id: expected a number or text"),
        ({"score": 10**400}, "entry 0: score: expected a finite number"),
        (
            {"segmentations": [[[10**400] * 6]]},
            "frame 0: segmentation: expected a list of polygons",
        ),
    ],
)
def test_videos(change, message) -> None:
    truth = {
        "videos": [{"id": 3, "length": 1, "height": 4, "width": 6}],
        "categories": CLASSES,
        "annotations": [
            {"id": 1, "video_id": 3, "category_id": 1, "iscrowd": 0, "segmentations": [RLE]}
        ],
    }
    entry = {"video_id": 3, "category_id": 1, "score": 0.5, "segmentations": [RLE]}
    with pytest.raises(UserError, match=message):
        evaluate_ytvis(truth, [entry | change])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (7, "results: expected a list, got int"),
        ([7], "expected an object with image_id"),
        (
            [{"image_id": 1, "category_id": [1], "score": 1, "segmentation": RLE}],
            "expected a number",
        ),
        ([{"image_id": 1, "category_id": 1, "score": 10**400, "segmentation": RLE}], "finite"),
    ],
)
def test_instances(results, message) -> None:
    image = {"id": 1, "height": 4, "width": 6}
    truth = {"images": [image], "categories": CLASSES, "annotations": []}
    with pytest.raises(UserError, match=message):
        coco_average_precision(truth, results)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"a": 1}, "guess.json: expected a list, got dict"),
        ([7], "guess.json: entry 0: expected an object with file_name"),
        ([{"category_id": 0, "segmentation": RLE}], "entry 0: .*missing: file_name"),
        ([{"file_name": 7, "category_id": 0, "segmentation": RLE}], "file_name: expected text"),
        ([{"file_name": "a", "category_id": [], "segmentation": RLE}], "category_id: expected a"),
    ],
)
def test_semantic(results, message, tmp_path) -> None:
    for name, suffix in (("photos", "jpg"), ("maps", "png")):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / f"1.{suffix}"), np.zeros(SIZE, np.uint8))
    roots = {"image_root": str(tmp_path / "photos"), "sem_seg_root": str(tmp_path / "maps")}
    register(tmp_path.name, "sem_seg", **roots, classes=["a", "b"])
    with pytest.raises(UserError, match=message):
        semantic_pq(tmp_path.name, written(tmp_path / "guess.json", results))
