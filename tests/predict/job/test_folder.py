"""Jobs whose own files are damaged: errors that name the file and the cure."""

import json
from pathlib import Path
from typing import Any

import pytest

from mask2former.errors import UserError
from mask2former.predict.job.folder import JobFolder, open_job
from mask2former.predict.job.items import VIDEO, Item

FINGERPRINT = {"config": ["a: 1"], "inputs": ["x"], "shard_size": 2}
ITEMS = [Item(0, "a", "a.jpg"), Item(1, "b", "b.jpg"), Item(2, "v", "v.mp4", VIDEO)]


def open_again(output: Path) -> list[list[Item]]:
    """Open a job, and return the inputs of all its shards."""
    open_job(output, FINGERPRINT, lambda: iter(ITEMS))
    job = JobFolder(output, 60.0)
    try:
        if job.is_finished():
            job.files()
        return [job.manifest[shard] for shard in range(len(job.manifest))]
    finally:
        job.close()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    assert open_again(tmp_path) == [ITEMS[:2], ITEMS[2:]]
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": 3},
        {"root": None},
        {"items": "3"},
        {"items": 5},
        {"items": -1},
        {"videos": True},
        {"shards": 10**30},
    ],
)
def test_damaged_facts(changes: dict[str, Any], output: Path) -> None:
    path = output / "job/job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=r"is damaged \(.*--overwrite to start anew"):
        open_again(output)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\n",
        b'{"first":0,"items":[]}\n',
        b'{"first":1,"items":[]}\n',
        b'{"first":0,"items":[{"name":"a","path":3},{"name":"b","path":"b.jpg"}]}\n',
        b'{"first":0,"items":[{"name":"a"},{"name":"b"}]}\n',
        b'{"first":0,"items":[7,8]}\n',
        b'{"first":0,"items":7}\n',
        b'{"first":0,"items":[{"name":"a","path":"a","member":"m","offset":-1,"size":1},{}]}\n',
        b'{"first":0,' + b"[" * 100_000 + b"\n",
        b'{"first":99999999999999999999999,"items":[]}\n',
    ],
)
def test_a_damaged_manifest(line: bytes, output: Path) -> None:
    path = output / "job/manifest.jsonl"
    path.write_bytes(line + b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match=r"manifest\.jsonl is damaged"):
        open_again(output)


@pytest.mark.parametrize("content", ["{}", "[1]", "3", "["])
def test_a_damaged_end(content: str, output: Path) -> None:
    (output / "job/finished.json").write_text(content)
    with pytest.raises(UserError, match=r"finished\.json"):
        open_again(output)


def test_settings_of_another_form_are_other_settings(output: Path) -> None:
    path = output / "job/job.json"
    facts = json.loads(path.read_text())
    facts["fingerprint"] |= {"config": [1, {}], "inputs": 3}
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="has a job of other settings"):
        open_again(output)
