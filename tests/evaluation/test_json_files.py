"""Json files: NaN, wholeness, errors."""

import pytest

from mask2former.evaluation.json_files import read_json, write_json


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
