"""PQ of semantic results: values worked out by hand, errors."""

import json

import numpy as np
import pytest
from PIL import Image

from mask2former.evaluation.semantic.evaluator import semantic_pq
from mask2former.formats.rle import encode_masks

GT = np.array([[0, 0, 0, 0, 1, 1, 1, 255]])
GUESS = np.array([[0, 0, 0, 2, 1, 2, 2, 1]])  # 9 = no entry


def entries(labels, file_name="a.jpg"):
    return [
        {
            "file_name": file_name,
            "category_id": 5 + int(k),
            "segmentation": encode_masks((labels == k)[None])[0],
        }
        for k in np.unique(labels)
        if k != 9
    ]


@pytest.fixture
def score(tmp_path, register):
    Image.fromarray(GT.astype(np.uint8)).save(tmp_path / "a.png")
    name = register(
        [{"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "a.png")}],
        stuff_classes=["wall", "tree", "car"],
        ignore_label=255,
        stuff_dataset_id_to_contiguous_id={5: 0, 6: 1, 7: 2},
    )

    def run(value):
        path = tmp_path / "sem_seg_predictions.json"
        path.write_text(json.dumps(value))
        return semantic_pq(name, path)

    return run


def test_by_hand(score):
    quality, scores = score(entries(GUESS))
    # wall: IoU 3/4; tree: IoU 1/3, so missed and wrong; car: wrong
    assert quality["per_class"][0]["pq"] == pytest.approx(3 / 4)
    counts = [[quality["per_class"][k][n] for n in ("tp", "fp", "fn")] for k in range(3)]
    assert counts == [[1, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert quality["All"]["pq"] == pytest.approx((3 / 4) / 3)
    assert quality["Things"]["n"] == 0
    assert scores["mIoU"] == pytest.approx(100 * (3 / 4 + 1 / 3 + 0) / 3)


def test_ground_truth_as_prediction(score):
    quality, scores = score(entries(np.where(GT == 255, 2, GT)))
    assert quality["All"]["pq"] == 1  # the class on ignored pixels alone is no mistake
    assert scores["mIoU"] == 100


def test_pixels_that_no_entry_covers(score):
    labels = GUESS.copy()
    labels[0, 0] = 9
    quality, scores = score(entries(labels))
    assert quality["per_class"][0]["tp"] == 0
    assert scores["IoU-wall"] == pytest.approx(100 * 2 / 4)


def test_errors(score):
    with pytest.raises(ValueError, match=r"missing: \['a.jpg'\], not in the dataset: \['b.jpg'\]"):
        score(entries(GUESS, "b.jpg"))
    with pytest.raises(ValueError, match=r"a.jpg: RLE size: expected \[1, 8\], got \[1, 5\]"):
        score(entries(GUESS[:, :5]))
    with pytest.raises(ValueError, match=r"a.jpg: category 3 is not one of the dataset"):
        score([{**e, "category_id": 3} for e in entries(GUESS)])
