"""Segments, on values worked out by hand, and annotation files, also after an interruption."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_util

from mask2former.data.preparation import annotations
from mask2former.data.preparation.annotations import (
    check_segments,
    describe_segments,
    draw_segments,
    free_id,
)


def test_free_ids_are_unique_and_look_like_the_class():
    taken: list[int] = []
    for _ in range(300):
        taken.append(free_id([220, 20, 60], taken))
    assert len(set(taken)) == 300
    assert taken[0] == 220 + 256 * 20 + 65536 * 60
    assert all(0 < i < 2**24 for i in taken)


def test_black_is_no_segment_id():
    assert free_id([0, 0, 0], ()) > 0


def test_describe_segments():
    ids = np.zeros((5, 7), np.int32)
    ids[1:3, 2:6] = 70000
    ids[2, 2] = ids[4, 6] = 9
    wide, far, missing = describe_segments(ids, [70000, 9, 8])
    assert (wide["bbox"], wide["area"]) == ([2, 1, 4, 2], 7)
    assert (mask_util.decode(wide["segmentation"]) == (ids == 70000)).all()
    assert isinstance(wide["segmentation"]["counts"], str)
    assert (far["bbox"], far["area"]) == ([2, 2, 5, 3], 2)
    assert missing["area"] == 0
    assert describe_segments(ids, []) == []


def test_draw_segments():
    low, high, nowhere = np.zeros((3, 2, 4), bool)
    low[1], high[:, 2:] = True, True
    ids, segments = draw_segments(
        (2, 4), [({"id": i, "color": [9, 0, 0]}, m) for i, m in ((5, low), (6, nowhere), (7, high))]
    )
    first, second = (segment["id"] for segment in segments)
    assert ids.tolist() == [[0, 0, second, second], [first, first, second, second]]
    assert first == 9 != second
    rows = [(s["category_id"], s["iscrowd"], s["bbox"], s["area"]) for s in segments]
    assert rows == [(5, 0, [0, 1, 2, 1], 2), (7, 0, [2, 0, 2, 2], 4)]
    everywhere = ~nowhere
    _, segments = draw_segments((2, 4), [({"id": i, "color": [9, 0, 0]}, everywhere) for i in "ab"])
    assert [s["category_id"] for s in segments] == ["b"]  # which hides the other


def test_check_segments(tmp_path):
    ids = np.array([[0, 5], [5, 6]])
    check_segments(ids, {5: 1, 6: 1}, tmp_path)
    with pytest.raises(ValueError, match=r"segments \[6\] are only in the PNG, \[8\] only in the"):
        check_segments(ids, {5: 1, 8: 1}, tmp_path)


class _Describe:
    """Counts its calls and stops at one of them."""

    def __init__(self, stop_at: int = -1):
        self.stop_at, self.calls = stop_at, 0

    def __call__(self, item: int) -> dict[str, int]:
        if item == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return {"item": item}


def _collect(describe: _Describe, items: list[int], journal: Path) -> list[dict[str, int]]:
    return annotations._collect_records(describe, items, journal, workers=1, label="")


def test_records_go_on_after_an_interruption(tmp_path):
    journal, items = tmp_path / "journal", list(range(6))
    with pytest.raises(KeyboardInterrupt):
        _collect(_Describe(stop_at=4), items, journal)
    second = _Describe()
    assert _collect(second, items, journal) == [{"item": i} for i in items]
    assert second.calls == 2


def test_a_journal_beside_a_complete_file_is_deleted(tmp_path):
    target, journal = tmp_path / "a.json", tmp_path / ".a.json.journal"
    journal.write_text("")
    assert not annotations.is_made(target, overwrite=False) and journal.exists()
    target.write_text("{}")
    assert not annotations.is_made(target, overwrite=True) and journal.exists()
    assert annotations.is_made(target, overwrite=False) and not journal.exists()


def test_a_journal_that_was_cut_short_is_used_up_to_there(tmp_path):
    journal, items = tmp_path / "journal", list(range(6))
    _collect(_Describe(), items, journal)
    text = journal.read_text()
    journal.write_text(text[: text.index("3") + 1])
    again = _Describe()
    assert _collect(again, items, journal) == [{"item": i} for i in items]
    assert again.calls >= 3


def test_of_a_journal_only_the_same_items_are_used(tmp_path):
    journal = tmp_path / "journal"
    _collect(_Describe(), [1, 2, 3], journal)
    again = _Describe()
    assert _collect(again, [4, 2, 1], journal) == [{"item": 4}, {"item": 2}, {"item": 1}]
    assert again.calls == 1


def _image_with_an_object(item: int) -> dict:
    return {"image": {"id": item}, "annotations": [{"image_id": item}]}


def test_annotations_are_checked_before_they_are_written(tmp_path):
    path, categories = tmp_path / "x.json", [{"id": 7}]
    options = {"label": ""}
    with pytest.raises(ValueError, match="would have no images: is the dataset complete"):
        annotations.write_annotations(path, _image_with_an_object, [], categories, **options)
    with pytest.raises(ValueError, match="would have images with the same id"):
        annotations.write_annotations(path, _image_with_an_object, [4, 4], categories, **options)
    assert not path.exists()
    annotations.write_annotations(path, _image_with_an_object, [4, 5], categories, **options)
    assert json.loads(path.read_text()) == {
        "images": [{"id": 4}, {"id": 5}],
        "annotations": [{"id": 1, "image_id": 4}, {"id": 2, "image_id": 5}],
        "categories": categories,
    }
    assert os.listdir(tmp_path) == ["x.json"]  # and no journal
    annotations.write_annotations(
        path, _image_with_an_object, [4], categories, numbered=False, **options
    )
    assert json.loads(path.read_text())["annotations"] == [{"image_id": 4}]
