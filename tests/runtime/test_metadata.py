"""Metadata: what is written is read, what is changed is noticed, what is wrong is named."""

import json
from dataclasses import replace

import pytest

from mask2former.formats.onnx_file import read_entry, write_entry
from mask2former.runtime import metadata
from mask2former.runtime.metadata import KEY, Metadata
from tests.runtime.exported import write_file

# ir_version 8, producer_name "x", an empty graph, metadata a = b.
OTHER = b"\x08\x08" + b"\x12\x01x" + b"\x3a\x00" + b"\x72\x06\x0a\x01a\x12\x01b"


@pytest.fixture
def path(tmp_path):
    write_file(tmp_path / "model.onnx", parity={"logits": 1e-4}, versions={"torch": "2"})
    return tmp_path / "model.onnx"


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "model.onnx"
    written = write_file(path, colors=((1, 2, 3),) * 3, thing_categories=((7, 0),))
    assert metadata.read(path) == written and len(written.digest) == 64
    assert json.loads(read_entry(path, KEY))["schema"] == 1


def test_the_rest_of_the_file_stays_and_old_metadata_go(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(OTHER)
    first = metadata.write(path, write_file(tmp_path / "other.onnx"))
    assert path.read_bytes().startswith(OTHER)
    assert read_entry(path, "a") == "b"
    size = path.stat().st_size
    assert metadata.write(path, first) == first and path.stat().st_size == size


@pytest.mark.parametrize("old", [b"\x08\x08", b'"topk": 5', b'"cup"', b"0.0001"])
def test_a_changed_file_is_noticed(path, old):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, old[:-1] + bytes([old[-1] ^ 1])))
    with pytest.raises(ValueError):
        metadata.read(path)


def test_a_file_with_something_more_is_noticed(path):
    write_entry(path, "note", "mine")
    with pytest.raises(ValueError, match=r"model\.onnx: the file is not what was exported"):
        metadata.read(path)
    assert metadata.read(path, verify=False).class_names == ("cup", "sky", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an ONNX file, got an empty one"),
        (b"version https://git-lfs", "expected an ONNX file, got another one"),
        (b"\x3a\x7f", "damaged or cut short"),
        (b"\x08", "damaged or cut short"),
        (b"\xff" * 30, "damaged or cut short"),
        (OTHER, "this one has no metadata 'mask2former'"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.onnx: .*{message}"):
        metadata.read(tmp_path / "a.onnx")


def test_cut_short_anywhere(path):
    content = path.read_bytes()
    for end in (1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError):
            metadata.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "have the schema version 2, and this mask2former reads up to 1; update"),
        ({"schema": "1"}, "have no schema version"),
        ({"kind": "sound"}, "kind: expected one of image, clip"),
        ({"thing_ids": [3]}, "thing_ids: expected positions in class_names, 0 to 2, got"),
        ({"thing_ids": ["a"]}, "thing_ids: expected positions"),
        ({"colors": [[1, 2, 3]]}, "colors: expected"),
        ({"colors": [[1, 2, 300]] * 3}, "colors: expected"),
        ({"class_names": []}, "class_names: expected"),
        ({"class_names": "abc"}, "class_names: expected tuple, got 'abc'"),
        ({"pixel_mean": [1, 2]}, "pixel_mean: expected three finite numbers"),
        ({"pixel_std": [1, 2, 0]}, "pixel_std: expected three finite numbers.*not 0"),
        ({"topk": 1.5}, "topk: expected int, got 1.5"),
        ({"semantic_on": 1}, "semantic_on: expected bool, got 1"),
        ({"size_divisibility": 0}, "size_divisibility: expected 1 to 16384, got 0"),
        ({"size_divisibility": 2**63}, "size_divisibility: expected 1 to 16384"),
        ({"min_size": 10**10}, "min_size: expected 0 .* to 16384"),
        ({"pixel_mean": [10**400, 0, 0]}, "metadata cannot be used: int too large"),
        ({"object_mask_threshold": 10**400}, "metadata cannot be used: int too large"),
        ({"thing_categories": [[1, 9]]}, "thing_categories: expected pairs"),
        ({"duplicate_iou": 2}, "duplicate_iou: expected a number in 0..1"),
        ({"object_mask_threshold": float("nan")}, "object_mask_threshold: expected a finite"),
    ],
)
def test_wrong_values_are_named(path, changes, message):
    values = json.loads(read_entry(path, KEY)) | changes
    write_entry(path, KEY, json.dumps(values))
    with pytest.raises(ValueError, match=message):
        metadata.read(path, verify=False)


def test_missing_and_unknown_values(path):
    values = json.loads(read_entry(path, KEY))
    write_entry(path, KEY, json.dumps(values | {"later": 1}))
    assert metadata.read(path, verify=False).topk == 5
    del values["kind"]
    write_entry(path, KEY, json.dumps(values))
    with pytest.raises(ValueError, match="cannot be used: .*'kind'"):
        metadata.read(path, verify=False)
    write_entry(path, KEY, "{")
    with pytest.raises(ValueError, match="its metadata are damaged"):
        metadata.read(path, verify=False)


def test_later_keys_are_under_the_digest(path):
    """A file of a later version, with keys that are not known here, is not taken for changed."""
    values = json.loads(read_entry(path, KEY)) | {"later": [1]}
    found = metadata._digest(path, json.dumps(values))
    write_entry(path, KEY, json.dumps(values | {"digest": found}))
    assert metadata.read(path).digest == found


def test_values_are_checked_when_made(path):
    with pytest.raises(ValueError, match="channel_order: expected 'RGB' or 'BGR', got 'L'"):
        replace(metadata.read(path), channel_order="L")
    assert Metadata.from_json(metadata.read(path).to_json(), "here") == metadata.read(path)
