"""Streams of json: what is written comes back, and no part files stay."""

import json

import pytest

from mask2former.formats.json_stream import JsonStream


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("entries", [[], [{"a": "line\nbreak"}], [1, None, {"b": [2.5]}]])
def test_round_trip(tmp_path, entries, merge):
    path = tmp_path / "new" / "list.json"
    stream = JsonStream(path)
    for entry in entries:
        stream.write(entry)
    assert not path.exists()
    stream.close(merge)
    assert json.loads(path.read_text()) == entries
    assert [p.name for p in path.parent.iterdir()] == ["list.json"]
