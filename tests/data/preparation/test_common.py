"""Parallel work, whole files, and going on after an interruption."""

import json
import os
from pathlib import Path

import pytest

from mask2former.data.preparation import common


def _square(number: int) -> int:
    return number * number


def _fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is broken")
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_of_the_items(workers):
    results = common.map_parallel(_square, range(50), workers=workers, label="")
    assert list(results) == [n * n for n in range(50)]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_workers_come_through(workers):
    with pytest.raises(ValueError, match="three is broken"):
        list(common.map_parallel(_fail_at_three, range(200), workers=workers, label=""))


class _Describe:
    """Counts its calls and stops at one of them."""

    def __init__(self, stop_at: int = -1):
        self.stop_at, self.calls = stop_at, 0

    def __call__(self, item: int) -> dict[str, int]:
        if item == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return {"item": item}


def _collect(describe: _Describe, items: list[int], target: Path) -> list[dict[str, int]]:
    return common.collect_records(describe, items, target, workers=1, label="")


def test_records_go_on_after_an_interruption(tmp_path):
    target, items = tmp_path / "target.json", list(range(6))
    with pytest.raises(KeyboardInterrupt):
        _collect(_Describe(stop_at=4), items, target)
    second = _Describe()
    assert _collect(second, items, target) == [{"item": i} for i in items]
    assert second.calls == 2


def test_a_journal_that_was_cut_short_is_used_up_to_there(tmp_path):
    target, items = tmp_path / "target.json", list(range(6))
    _collect(_Describe(), items, target)
    (journal,) = tmp_path.iterdir()
    text = journal.read_text()
    journal.write_text(text[: text.index("3") + 1])
    again = _Describe()
    assert _collect(again, items, target) == [{"item": i} for i in items]
    assert again.calls >= 3


def test_a_journal_of_other_items_is_not_used(tmp_path):
    target = tmp_path / "target.json"
    _collect(_Describe(), [1, 2, 3], target)
    again = _Describe()
    assert _collect(again, [1, 2, 4], target) == [{"item": 1}, {"item": 2}, {"item": 4}]
    assert again.calls == 3


def _copy(job: tuple[str, Path]) -> None:
    job[1].write_text(job[0])


def test_files_that_are_there_are_kept(tmp_path):
    jobs = [(name, tmp_path / "made" / name) for name in "abc"]
    jobs[1][1].parent.mkdir()
    jobs[1][1].write_text("older")
    options = {"workers": 1, "label": ""}
    common.convert_files(_copy, jobs, overwrite=False, **options)
    assert [job[1].read_text() for job in jobs] == ["a", "older", "c"]
    common.convert_files(_copy, jobs, overwrite=True, **options)
    assert [job[1].read_text() for job in jobs] == ["a", "b", "c"]


def test_list_files(tmp_path):
    for name in ("b.png", "a.png", ".c.png", "d.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in common.list_files(tmp_path, "*.png")] == ["a.png", "b.png"]
    with pytest.raises(FileNotFoundError, match=r"has no \*.jpg; datasets/README.md shows"):
        common.list_files(tmp_path, "*.jpg")


def test_link_files_keeps_what_exists(tmp_path):
    source, target = tmp_path / "source", tmp_path / "folder" / "source"
    source.write_text("new")
    common.link_files([source], target.parent)
    assert target.read_text() == "new"
    target.unlink()
    target.write_text("old")
    common.link_files([source], target.parent)
    assert target.read_text() == "old"


def test_link_files_copies_where_links_do_not_work(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_text("text")
    common.link_files([tmp_path / "source"], tmp_path / "folder")
    assert (tmp_path / "folder" / "source").read_text() == "text"


def _image_with_an_object(item: int) -> dict:
    return {"image": {"id": item}, "annotations": [{"image_id": item}]}


def test_annotations_are_checked_before_they_are_written(tmp_path):
    path, categories = tmp_path / "x.json", [{"id": 7}]
    options = {"label": ""}
    with pytest.raises(ValueError, match="would have no images: is the dataset complete"):
        common.write_annotations(path, _image_with_an_object, [], categories, **options)
    with pytest.raises(ValueError, match="would have images with the same id"):
        common.write_annotations(path, _image_with_an_object, [4, 4], categories, **options)
    assert not path.exists()
    common.write_annotations(path, _image_with_an_object, [4, 5], categories, **options)
    assert json.loads(path.read_text()) == {
        "images": [{"id": 4}, {"id": 5}],
        "annotations": [{"id": 1, "image_id": 4}, {"id": 2, "image_id": 5}],
        "categories": categories,
    }
    assert os.listdir(tmp_path) == ["x.json"]  # and no journal
    common.write_annotations(
        path, _image_with_an_object, [4], categories, numbered=False, **options
    )
    assert json.loads(path.read_text())["annotations"] == [{"image_id": 4}]


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    target = tmp_path / "folder"
    with common.atomic_folder(target) as partial:
        (partial / "file").write_text("first")
    with pytest.raises(ZeroDivisionError), common.atomic_folder(target) as partial:
        (partial / "file").write_text("second")
        raise ZeroDivisionError
    assert (target / "file").read_text() == "first"
    assert os.listdir(tmp_path) == ["folder"]
