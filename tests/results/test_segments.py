"""Predictions as lists of segments, and what is left with some of them."""

import numpy as np

from mask2former.results.segments import only, reduced, segments_of
from mask2former.runtime.postprocessing.instances import Instances

METADATA = {
    "thing_classes": ["cat"],
    "stuff_classes": ["cat", "sky <b>"],
    "stuff_colors": [[255, 0, 0], [0, 0, 255]],
    "thing_dataset_id_to_contiguous_id": {7: 0},
    "stuff_dataset_id_to_contiguous_id": {7: 0, 9: 1},
}
IDS = np.array([[1, 1, 2, 2], [1, 1, 2, 0], [1, 1, 1, 1]], np.int32)
LABELS = np.array([[0, 0, 1, 1], [0, 0, 1, -1], [0, 0, 0, 0]], np.int32)


def prediction() -> dict:
    masks = np.stack([IDS == 2, IDS == 1, np.zeros_like(IDS, bool)])
    infos = [
        {"id": 1, "isthing": True, "category_id": 0},
        {"id": 2, "isthing": False, "category_id": 1},
    ]
    instances = Instances(
        pred_masks=masks,
        pred_boxes=np.zeros((3, 4), np.float32),
        scores=np.array([0.5, 0.25, 0.9], np.float32),
        pred_classes=np.array([0, 0, 0]),
    )
    return {"panoptic_seg": (IDS, infos), "instances": instances, "sem_seg": LABELS}


def test_lists_by_hand() -> None:
    found = segments_of(prediction(), METADATA)
    rows = {
        kind: [(s.number, s.name, s.score, s.area) for s in some] for kind, some in found.items()
    }
    assert rows == {
        "panoptic": [(1, "cat", None, 8), (2, "sky <b>", None, 3)],
        "instance": [(2, "cat", 0.25, 8), (1, "cat", 0.5, 3)],  # large ones first, no empty one
        "semantic": [(0, "cat", None, 8), (1, "sky <b>", None, 3)],
    }
    assert found["instance"][0].title == "cat 25%, 8 px"
    assert found["semantic"][1].colour.tolist() == [0, 0, 1]
    assert segments_of({"sem_seg": LABELS}, METADATA).keys() == {"semantic"}


def test_shares_below_the_threshold_are_no_segment() -> None:
    scores = np.zeros((2, 1, 2), np.float32)
    scores[:, 0, 0], scores[:, 0, 1] = (0.6, 0.4), (0.1, 0.9)
    found = segments_of({"sem_seg": scores}, METADATA, 0.7)["semantic"]
    assert [(s.number, s.area) for s in found] == [(1, 1)]


def test_some_of_them() -> None:
    segments = only(segments_of(prediction(), METADATA), {"panoptic": {2}, "instance": [2, 3]})
    assert {kind: [s.number for s in some] for kind, some in segments.items()} == {
        "panoptic": [2],
        "instance": [2],
        "semantic": [],
    }
    left = reduced(prediction(), segments)
    ids, infos = left["panoptic_seg"]
    assert ids.tolist() == np.where(IDS == 2, 2, 0).tolist()
    assert [info["id"] for info in infos] == [2]
    assert left["instances"].scores.tolist() == [0.25]
    assert (left["sem_seg"] == -1).all()
    whole = reduced(prediction(), segments_of(prediction(), METADATA))
    assert whole["sem_seg"].tolist() == LABELS.tolist()
