"""Parallel work, and files that are made once."""

import functools
import os
import time
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


def _die(number: int) -> None:
    os._exit(9)


def test_a_killed_worker_is_an_error_with_the_cure():
    with pytest.raises(OSError, match=r"photos: a worker was killed, .* fewer workers than 2"):
        list(common.map_parallel(_die, range(9), workers=2, label="photos"))


def _leave_a_mark(folder: Path, number: int) -> None:
    if number == 0:
        raise ValueError("the first is broken")
    time.sleep(0.01)
    (folder / str(number)).touch()


def test_after_an_error_the_rest_is_not_done(tmp_path):
    function = functools.partial(_leave_a_mark, tmp_path)
    with pytest.raises(ValueError, match="the first is broken"):
        list(common.map_parallel(function, range(400), workers=2, label=""))
    assert len(list(tmp_path.iterdir())) < 200  # what had been handed to the processes


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
