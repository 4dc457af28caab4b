"""Annotations in the form of predictions: hand-made records, damaged ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import Metadata
from PIL import Image

from mask2former.visualization import ground_truth

SIZE = (4, 6)
PLAIN = Metadata(ignore_label=255)


def record(**more: Any) -> dict[str, Any]:
    return {"file_name": "photo.jpg", "height": 4, "width": 6, **more}


def save(path: Path, pixels: Any, dtype: type = np.uint8) -> str:
    Image.fromarray(np.array(pixels, dtype)).save(path)
    return str(path)


def test_panoptic(tmp_path: Path) -> None:
    ids = np.zeros((4, 6), np.int64)
    ids[0], ids[1], ids[2, :3], ids[2, 3:] = 70000, 300, 5, 6
    pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
    segments = [
        {"id": 300, "category_id": 4, "isthing": True},
        {"id": 5, "category_id": 4, "isthing": True, "iscrowd": 1},
        {"id": 70000, "category_id": 2, "isthing": False, "iscrowd": 0},
        {"id": 6, "category_id": 1},
    ]
    path = save(tmp_path / "pan.png", pixels)
    truth = ground_truth(record(pan_seg_file_name=path, segments_info=segments), PLAIN, SIZE)
    assert list(truth) == ["panoptic_seg"]
    numbered, infos = truth["panoptic_seg"]
    assert numbered.tolist() == [[2] * 6, [1] * 6, [0, 0, 0, 3, 3, 3], [0] * 6]
    assert infos == [
        {"id": 1, "category_id": 4, "isthing": True},
        {"id": 2, "category_id": 2, "isthing": False},
        {"id": 3, "category_id": 1, "isthing": True},
    ]


def test_instances_of_each_form() -> None:
    bitmap = np.zeros(SIZE, np.uint8)
    bitmap[3, 5] = 1
    entries = [
        {"category_id": 3, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]},  # polygon
        {"category_id": 9, "segmentation": {"size": [4, 6], "counts": [0, 24]}, "iscrowd": 1},
        {"category_id": 1, "segmentation": {"size": [4, 6], "counts": [4, 2, 18]}},  # down columns
        {"category_id": 2, "segmentation": bitmap, "iscrowd": 0},
        {"category_id": 5, "segmentation": [[0, 0, 1, 1]]},  # no area
    ]
    truth = ground_truth(record(annotations=entries), PLAIN, SIZE)
    instances = truth["instances"]
    assert instances.image_size == SIZE and not instances.has("scores")
    assert instances.pred_classes.tolist() == [3, 1, 2, 5]
    polygon, rle, third, none = instances.pred_masks.numpy()
    expected = np.zeros((2, *SIZE), bool)
    expected[0, 1:3, 1:4] = True
    expected[1, :2, 1] = True
    np.testing.assert_array_equal(polygon, expected[0])
    np.testing.assert_array_equal(rle, expected[1])
    np.testing.assert_array_equal(third, bitmap)
    assert not none.any()


def test_no_instances() -> None:
    crowd = {"category_id": 0, "segmentation": {"size": [4, 6], "counts": [24]}, "iscrowd": 1}
    for entries in ([], [crowd]):
        instances = ground_truth(record(annotations=entries), PLAIN, SIZE)["instances"]
        assert instances.pred_masks.shape == (0, 4, 6) and len(instances.pred_classes) == 0


def test_semantic(tmp_path: Path) -> None:
    labels = [[0, 1, 2, 255, 254, 7]] * 4
    truth = ground_truth(record(sem_seg_file_name=save(tmp_path / "a.png", labels)), PLAIN, SIZE)
    assert truth["sem_seg"].tolist() == [[0, 1, 2, -1, 254, 7]] * 4


def test_semantic_labels_with_other_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[10, 300, 0, 65535, 20, 11]] * 4, np.uint16)
    metadata = Metadata(ignore_label=20, sem_seg_labels=[300, 10, 20])
    truth = ground_truth(record(sem_seg_file_name=path), metadata, SIZE)
    assert truth["sem_seg"].tolist() == [[1, 0, -1, -1, -1, -1]] * 4


def test_sixteen_bits_without_other_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[846, 255, 65535, 0, 1, 2]] * 4, np.uint16)
    truth = ground_truth(record(sem_seg_file_name=path), Metadata(ignore_label=65535), SIZE)
    assert truth["sem_seg"].tolist() == [[846, 255, -1, 0, 1, 2]] * 4


def test_a_record_without_annotations() -> None:
    assert ground_truth(record(), PLAIN, SIZE) == {}
    assert ground_truth({"file_name": "a.jpg"}, PLAIN, (9, 9)) == {}


@pytest.mark.parametrize("key", ["pan_seg_file_name", "sem_seg_file_name"])
def test_map_of_another_size(tmp_path: Path, key: str) -> None:
    colours = (3,) if key.startswith("pan") else ()
    path = save(tmp_path / "map.png", np.zeros((5, 6, *colours)))
    with pytest.raises(ValueError, match=r"map\.png: expected 6x4 pixels .* the file has 6x5"):
        ground_truth(record(**{key: path}, segments_info=[]), PLAIN, SIZE)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"height": 6, "width": 4}, ValueError, r"photo\.jpg: expected 4x6 pixels .* swapped"),
        ({"pan_seg_file_name": "none.png"}, FileNotFoundError, r"none\.png"),
        ({"sem_seg_file_name": "none.png"}, FileNotFoundError, r"none\.png"),
        ({"annotations": [{"id": 8, "category_id": 0}]}, ValueError, "annotation 8: segmentation"),
        (
            {"annotations": [{"category_id": 0, "segmentation": {"size": [6, 4], "counts": "0"}}]},
            ValueError,
            r"annotation number 0: RLE size: expected \[4, 6\], got \[6, 4\]",
        ),
    ],
)
def test_damaged_records(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ground_truth(record(**fields), PLAIN, SIZE)
