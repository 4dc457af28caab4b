"""The report: what is reached, the table, the files."""

import json

import pytest

from benchmarks import report


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"ratio": 2.5, "min_ratio": 2.0}, (">= 2", True)),
        ({"ratio": 1.5, "min_ratio": 2.0}, (">= 2", False)),
        ({"ratio": 0.4, "max_ratio": 0.5}, ("<= 0.5", True)),
        ({"ratio": 0.6, "max_ratio": 0.5}, ("<= 0.5", False)),
        ({"ours": 3.0, "unit": "GB", "max_value": 4.0}, ("ours <= 4 GB", True)),
        ({"ours": 5.0, "unit": "GB", "max_value": 4.0}, ("ours <= 4 GB", False)),
        ({"ours": 5.0, "min_ratio": None}, ("", None)),
    ],
)
def test_wanted(row, expected):
    assert report.wanted(row) == expected


def test_table():
    rows = [
        {"what": "a", "unit": "s", "ours": 1.0, "peer": 3.0, "ratio": 3.0, "min_ratio": 2.0},
        {"what": "b", "unit": "GB", "ours": 0.12345},
    ]
    lines = report.table(rows).splitlines()
    assert lines[2] == "| a | s | 1 | 3 | 3 | >= 2 yes |  |"
    assert lines[3] == "| b | GB | 0.123 |  |  |  |  |"


def test_files(tmp_path):
    point = {"what": "growth", "cause": "pixels", "series": "ours"}
    rows = [
        {**point, "unit": unit, "amount": x, "ours": x / 10}
        for unit in ("s", "GB")
        for x in (1.0, 2.0)
    ]
    paths = report.save(rows, tmp_path)
    assert [path.name for path in paths] == ["results.json", "results.md", "growth.png"]
    saved = json.loads(paths[0].read_text())
    assert saved["rows"] == rows
    assert saved["machine"]["threads"] >= 1
    assert report.table(rows) in paths[1].read_text()
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert len(report.save(rows[:0], tmp_path / "other")) == 2  # nothing to draw
