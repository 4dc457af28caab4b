"""One entry of the metadata of an ONNX file: agreement with the onnx package, and by hand."""

import hashlib

import pytest

from mask2former.formats.onnx_file import digest_without, read_entry, write_entry

MODEL = b"\x08\x08" + b"\x12\x01x" + b"\x3a\x00"  # ir_version 8, producer_name "x", a graph
ENTRY = b"\x72\x06\x0a\x01a\x12\x01b"  # metadata a = b


@pytest.fixture
def path(tmp_path):
    (tmp_path / "model.onnx").write_bytes(MODEL + ENTRY)
    return tmp_path / "model.onnx"


def test_by_hand(path):
    assert read_entry(path, "a") == "b" and read_entry(path, "c") is None
    write_entry(path, "c", "")
    assert path.read_bytes() == MODEL + ENTRY + b"\x72\x05\x0a\x01c\x12\x00"
    write_entry(path, "a", "B")
    assert path.read_bytes() == MODEL + b"\x72\x05\x0a\x01c\x12\x00" + b"\x72\x06\x0a\x01a\x12\x01B"
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("length", [0, 127, 128, 100_000])
def test_texts_of_any_length(path, length):
    write_entry(path, "long", "ü" * length)
    assert read_entry(path, "long") == "ü" * length
    assert path.read_bytes().startswith(MODEL + ENTRY)


def test_digest_is_that_of_all_else(path):
    assert digest_without(path, "a") == hashlib.sha256(MODEL).hexdigest()
    assert digest_without(path, "c") == hashlib.sha256(MODEL + ENTRY).hexdigest()
    before = digest_without(path, "a")
    write_entry(path, "a", "another value")
    assert digest_without(path, "a") == before


def test_an_entry_that_is_there_twice(path):
    path.write_bytes(MODEL + ENTRY + ENTRY)
    with pytest.raises(ValueError, match=r"model\.onnx: .* the entry 'a' 2 times"):
        read_entry(path, "a")


def test_the_onnx_package_reads_what_was_written(path):
    onnx = pytest.importorskip("onnx", reason="onnx is missing: pip install onnx")
    write_entry(path, "mine", '{"a": "ü"}')
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert found == {"a": "b", "mine": '{"a": "ü"}'}
    model = onnx.load(path)
    model.metadata_props.add(key="theirs", value="1")
    onnx.save(model, path)
    assert read_entry(path, "theirs") == "1" and read_entry(path, "mine") == '{"a": "ü"}'
