"""Files written atomically: invariants and errors."""

import os
import stat

import pytest

from mask2former.formats.atomic import atomic_path


def test_writes_a_new_file_and_replaces_an_old_one(tmp_path):
    target = tmp_path / "results.json"
    for text in ("first", "second"):
        with atomic_path(target) as path:
            assert path.suffix == ".json" and path != target
            path.write_text(text)
        assert target.read_text() == text
    assert os.listdir(tmp_path) == ["results.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as path:
        path.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.json"]


def test_permissions_are_those_of_ordinary_files(tmp_path):
    with atomic_path(tmp_path / "ours") as path:
        path.unlink()  # as writers do that rename a file of their own
        path.touch(0o600)
    (tmp_path / "ordinary").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_missing_folder_is_named(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="folder .*nowhere is missing"),
        atomic_path(tmp_path / "nowhere" / "file"),
    ):
        pass


@pytest.mark.parametrize(("sync", "count"), [(True, 2), (False, 0)])
def test_file_and_name_are_on_the_disk(tmp_path, monkeypatch, sync, count):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_mode))
    with atomic_path(tmp_path / "a", sync=sync) as part:
        part.write_text("new")
    assert len(synced) == count
    if sync:  # the file before its name is changed, the folder after it
        assert [stat.S_ISDIR(mode) for mode in synced] == [False, True]
