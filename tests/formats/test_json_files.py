"""Json files: NaN, atomic writing, streams, errors."""

import json

import pytest

from mask2former.errors import UserError
from mask2former.formats.json_files import (
    JsonStream,
    join_json,
    read_json,
    require_count,
    require_keys,
    write_json,
    write_json_list,
)


def test_nan_and_infinities_become_null(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json(path, {"a": [1.5, float("nan")], "b": (float("inf"), {"c": None})})
    assert read_json(path) == {"a": [1.5, None], "b": [None, {"c": None}]}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, [object()])
    assert read_json(path) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_what_is_no_json_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken.json: expected a json file"):
        read_json(path)


@pytest.mark.parametrize("entries", [[], [1], [{"a": 1}, None]])
def test_lists_entry_by_entry(tmp_path, entries):
    write_json_list(tmp_path / "new" / "list.json", iter(entries))
    assert read_json(tmp_path / "new" / "list.json") == entries
    assert len((tmp_path / "new" / "list.json").read_text().splitlines()) <= len(entries) + 2


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (["1", '{"a":2}'], [1, {"a": 2}]),
        ([], []),
        ({}, {}),
        ({"a": ["1", "2"], "b c": [], "d": ["null"]}, {"a": [1, 2], "b c": [], "d": [None]}),
    ],
)
def test_entries_that_are_json_already(tmp_path, lists, expected):
    path = tmp_path / "new" / "file.json"
    lazy = {k: iter(v) for k, v in lists.items()} if isinstance(lists, dict) else iter(lists)
    join_json(path, lazy)
    assert read_json(path) == expected


def test_required_keys():
    require_keys({"a": 1, "b": None}, ("a", "b"))
    with pytest.raises(ValueError, match="missing: b$"):
        require_keys({"a": 1}, ("a", "b"))
    with pytest.raises(ValueError, match="missing: a, b$"):
        require_keys([1], ("a", "b"))


def test_counts():
    for good in (0, 1, 2**63 - 1):
        require_count(good, "size")
    for bad in (-1, 2**63, 1.0, True, "1", None, [1]):
        with pytest.raises(UserError, match="size: expected a whole number of 0 or more, got "):
            require_count(bad, "size")


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("entries", [[], [{"a": "line\nbreak"}], [1, None, {"b": [2.5]}]])
def test_streams(tmp_path, entries, merge):
    path = tmp_path / "new" / "list.json"
    stream = JsonStream(path)
    for entry in entries:
        stream.write(entry)
    assert not path.exists()
    stream.close(merge)
    assert json.loads(path.read_text()) == entries
    assert [p.name for p in path.parent.iterdir()] == ["list.json"]


@pytest.mark.parametrize("stream", [True, False])
def test_nan_in_lists_becomes_null(tmp_path, stream):
    path, entries = tmp_path / "list.json", [{"score": float("nan")}, {"score": 0.5}]
    if stream:
        writer = JsonStream(path)
        for entry in entries:
            writer.write(entry)
        writer.close()
    else:
        write_json_list(path, entries)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == [
        {"score": None},
        {"score": 0.5},
    ]
