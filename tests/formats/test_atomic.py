"""Files written atomically: invariants and errors."""

import os
import signal
import stat

import pytest

from mask2former.formats.atomic import atomic_folder, atomic_path, remove_leftovers


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


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    target = tmp_path / "a.json"
    named = pytest.raises(OSError, match=rf"No space left on device: '{target}'")
    with named, atomic_path(target), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"a")


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


def kill_in(block):
    """Run a block in a process that is killed at its end."""
    child = os.fork()
    if child == 0:
        try:
            block()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_what_a_killed_process_left_is_used_up_by_the_next(tmp_path):
    target = tmp_path / "results.json"

    def write_half():
        with atomic_path(target) as path:
            path.write_text("half of a long text")
            os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):
        kill_in(write_half)
        assert not target.exists() and len(os.listdir(tmp_path)) == 1
    with atomic_path(target) as path:
        path.write_text("new")
    assert target.read_text() == "new" and os.listdir(tmp_path) == ["results.json"]


def test_two_writers_at_once_do_not_share_a_file(tmp_path):
    target = tmp_path / "a.json"
    with atomic_path(target) as first:
        first.write_text("first")
        with atomic_path(target) as second:
            assert second != first
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_what_somebody_else_has_put_there_is_not_written_to(tmp_path, make):
    target, other = tmp_path / "a.json", tmp_path / "other"
    with atomic_path(target) as path:
        pass
    other.write_text("kept")
    make(other, path)
    with atomic_path(target) as second:
        second.write_text("new")
    assert target.read_text() == "new" and other.read_text() == "kept"


def test_folders_are_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "made"

    def write_half():
        with atomic_folder(target) as folder:
            (folder / "a").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    kill_in(write_half)
    assert not target.exists()
    for text in ("first", "second"):
        with atomic_folder(target) as folder:
            assert not os.listdir(folder)
            (folder / "a").write_text(text)
        assert (target / "a").read_text() == text and os.listdir(tmp_path) == ["made"]
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as folder:
        raise KeyboardInterrupt
    assert (target / "a").read_text() == "second" and os.listdir(tmp_path) == ["made"]


def test_leftovers_go_unless_they_are_being_written(tmp_path):
    target = tmp_path / "made"

    def write_half():
        with atomic_folder(target) as folder:
            (folder / "a").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    remove_leftovers(target)
    kill_in(write_half)
    assert os.listdir(tmp_path)
    remove_leftovers(target)
    assert not os.listdir(tmp_path)
    with atomic_folder(target) as folder:
        remove_leftovers(target)
        (folder / "a").write_text("whole")
    assert os.listdir(tmp_path) == ["made"] and os.listdir(target) == ["a"]
