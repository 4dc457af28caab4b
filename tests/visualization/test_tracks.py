"""Drawing of frames: an object's colour is that of its id, whatever else is in the frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances

from mask2former.visualization.tracks import draw_frame

SIZE = (260, 300)
METADATA = Metadata(
    thing_classes=["dog", "cat"], stuff_classes=["dog", "cat", "sky"], stuff_colors=[[9, 8, 7]] * 3
)
IMAGE = np.zeros((*SIZE, 3), np.uint8)


def instances(*items: tuple[int, int, float]) -> dict:
    """Of (id, first column of 40, score), 10 pixels below the top."""
    found = Instances(SIZE)
    found.pred_masks = torch.zeros(len(items), *SIZE, dtype=torch.bool)
    for i, (_, x, _) in enumerate(items):
        found.pred_masks[i, 10 + i : -10, x : x + 40] = True
    found.pred_classes = torch.zeros(len(items), dtype=torch.int64)
    found.scores = torch.tensor([item[2] for item in items])
    found.track_ids = torch.tensor([item[0] for item in items])
    return {"instances": found}


def border(picture: np.ndarray, x: int) -> list[int]:
    """The colour of the left border of what starts in column x."""
    return picture[-20, x].tolist()


def test_colours_stay_with_ids():
    first = draw_frame(IMAGE, instances((1, 0, 0.9), (2, 100, 0.9)), METADATA)
    second = draw_frame(IMAGE, instances((2, 200, 0.9), (5, 0, 0.9), (1, 100, 0.9)), METADATA)
    assert border(first, 0) == border(second, 100)
    assert border(first, 100) == border(second, 200)
    colours = {tuple(border(first, 0)), tuple(border(first, 100)), tuple(border(second, 0))}
    assert len(colours) == 3 and (0, 0, 0) not in colours


def test_low_scores_are_left_out():
    picture = draw_frame(IMAGE, instances((1, 0, 0.4), (2, 100, 0.9)), METADATA, threshold=0.5)
    assert border(picture, 0) == [0, 0, 0]
    assert border(picture, 100) != [0, 0, 0]


def test_segments_things_by_id_and_stuff_by_class():
    ids = torch.zeros(SIZE, dtype=torch.int32)
    ids[:, :100], ids[:, 100:200], ids[:, 200:] = 7, 3, 4
    infos = [
        {"id": 3, "isthing": True, "category_id": 0},
        {"id": 4, "isthing": True, "category_id": 0},
        {"id": 7, "isthing": False, "category_id": 2},
    ]
    picture = draw_frame(IMAGE, {"panoptic_seg": (ids, infos)}, METADATA)
    assert picture[0, 50].tolist() == [9, 8, 7]
    assert picture[0, 150].tolist() != picture[0, 250].tolist()
    same = draw_frame(IMAGE, instances((3, 100, 1.0)), METADATA)
    assert border(same, 100) == picture[0, 150].tolist()


def test_semantic_labels():
    labels = torch.full(SIZE, -1)
    labels[:, :100] = 2
    picture = draw_frame(IMAGE, {"sem_seg": labels}, METADATA)
    assert picture[0, 50].tolist() == [9, 8, 7]
    assert picture[0, 200].tolist() == [0, 0, 0]


def test_kinds_that_are_not_there():
    with pytest.raises(ValueError, match="cannot draw semantic: the model gives instance"):
        draw_frame(IMAGE, instances((1, 0, 0.9)), METADATA, kind="semantic")
