"""Semantic ground truth: every form of label map, panoptic segments, errors."""

import numpy as np
import pytest
from PIL import Image

from mask2former.evaluation.semantic.truth import SemanticTruth
from mask2former.formats.label_maps import write_panoptic_png


@pytest.fixture
def truth(tmp_path, register):
    """Builds the ground truth of one image of 3 classes, whose label map is given."""

    def build(labels, ignore_label=255, **metadata):
        path = tmp_path / "label.png"
        image = labels if isinstance(labels, Image.Image) else Image.fromarray(labels)
        image.save(path)
        record = {"file_name": "a.jpg", "sem_seg_file_name": str(path)}
        classes = {"stuff_classes": ["wall", "tree", "car"], "ignore_label": ignore_label}
        return SemanticTruth(register([record], **classes, **metadata))

    return build


def test_8_bits(truth):
    found = truth(np.array([[0, 2, 255]], np.uint8))
    assert found.read("a.jpg").tolist() == [[0, 2, -1]]
    assert found.file_names == {"a.jpg"}
    assert found.dataset_ids[2] == 2


def test_16_bits(truth):
    found = truth(np.array([[0, 2, 65535]], np.uint16), ignore_label=65535)
    assert found.read("a.jpg").tolist() == [[0, 2, -1]]


def test_palette(truth):
    image = Image.fromarray(np.array([[1, 0, 2]], np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert image.mode == "P"
    assert truth(image).read("a.jpg").tolist() == [[1, 0, 2]]


def test_labels_of_other_numbers(truth):
    labels = np.array([[40, 7, 9], [255, 0, 41]], np.uint8)
    found = truth(labels, sem_seg_labels=[7, 40, 9])
    assert found.read("a.jpg").tolist() == [[1, 0, 2], [-1, -1, -1]]
    assert [found.dataset_ids[k] for k in range(3)] == [7, 40, 9]


def test_ids_of_the_data_set(truth):
    ids = {11: 0, 30: 1, 12: 2}
    found = truth(np.array([[1]], np.uint8), stuff_dataset_id_to_contiguous_id=ids)
    assert found.read("a.jpg").tolist() == [[1]]  # ids of the json, not of the label maps
    assert found.dataset_ids[1] == 30


def test_panoptic_segments_stand_in(tmp_path, register):
    path = tmp_path / "a.png"
    write_panoptic_png(path, np.array([[0, 0, 70000], [0, 5, 5]]))
    segments = [(70000, 2), (5, 0)]
    record = {
        "file_name": "a.jpg",
        "pan_seg_file_name": str(path),
        "segments_info": [{"id": i, "category_id": c, "iscrowd": 1} for i, c in segments],
    }
    name = register([record], stuff_classes=["a", "b", "c"], ignore_label=255)
    assert SemanticTruth(name).read("a.jpg").tolist() == [[-1, -1, 2], [-1, 0, 0]]
    record["segments_info"] = []
    with pytest.raises(ValueError, match=r"a.png: segment 5: the segment has 2 pixels and is not"):
        SemanticTruth(name).read("a.jpg")


def test_errors(truth, tmp_path, register):
    with pytest.raises(ValueError, match=r"label.png: has the labels 3, which are no class from 0"):
        truth(np.array([[3]], np.uint8)).read("a.jpg")
    with pytest.raises(ValueError, match=r"label.png: expected one channel .* mode RGB"):
        truth(np.full((2, 2, 3), (1, 2, 3), np.uint8)).read("a.jpg")
    found = truth(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"b.jpg is not an image of evaluation_test"):
        found.read("b.jpg")
    path = tmp_path / "label.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"label.png: not an image"):
        found.read("a.jpg")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"label.png"):
        found.read("a.jpg")
    name = register([{"file_name": "a.jpg"}], stuff_classes=["a"], ignore_label=255)
    with pytest.raises(ValueError, match=r"a.jpg has no semantic ground truth: .* got file_name"):
        SemanticTruth(name)
