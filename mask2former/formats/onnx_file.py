"""One text in the metadata of an ONNX file: reading, writing, and a digest of all else in it.

An ONNX file is a protobuf message whose fields follow each other, each with a number in front. Only
these outermost fields are looked at, so that neither the onnx package nor the memory for the
weights is needed. Source: onnx.proto of ONNX (ModelProto: metadata_props is field 14).
"""

import hashlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from ..errors import UserError
from .atomic import PathLike, atomic_path

_METADATA_PROPS = 14
_KEY, _VALUE = 1, 2  # fields of an entry of metadata_props
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIELDS = set(range(1, 21)) | {25, 26}  # of ModelProto, with some that may yet come
_CHUNK = 2**22  # bytes that are held at a time
_MAX_ENTRY = 2**26  # bytes of an entry that is read: more is no metadata


class _Field(NamedTuple):
    """A field of a message: it lies from `start` to `end`, and its content from `content` on."""

    number: int
    wire_type: int
    start: int
    content: int
    end: int


def read_entry(path: PathLike, key: str) -> str | None:
    """Return the value of a key of the metadata of an ONNX file; None where it has none.

    Raises:
        FileNotFoundError: no such file.
        UserError: it is no ONNX file, is cut short, or has the key twice; names the file.
    """
    with open(path, "rb") as file:
        values = [entry[1] for _, entry in _entries(file, path) if entry[0] == key]
    if len(values) > 1:
        raise UserError(f"{path}: its metadata have the entry {key!r} {len(values)} times")
    return values[0] if values else None


def write_entry(path: PathLike, key: str, value: str) -> None:
    """Set a key of the metadata of an ONNX file, which is written anew, atomically.

    Raises:
        FileNotFoundError, UserError: as `read_entry`.
    """
    with open(path, "rb") as file, atomic_path(path) as part, open(part, "wb") as target:
        for chunk in _all_but(file, path, key):
            target.write(chunk)
        entry = _pack(_KEY, key.encode()) + _pack(_VALUE, value.encode())
        target.write(_pack(_METADATA_PROPS, entry))


def digest_without(path: PathLike, key: str) -> str:
    """Return the SHA-256, in hexadecimal, of an ONNX file without one entry of its metadata.

    Raises:
        FileNotFoundError, UserError: as `read_entry`.
    """
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in _all_but(file, path, key):
            found.update(chunk)
    return found.hexdigest()


def _all_but(file: IO[bytes], path: PathLike, key: str) -> Iterator[bytes]:
    """Yield the content of a file, without the entries of a key."""
    left_out = {field.start for field, (name, _) in _entries(file, path) if name == key}
    for field in list(_fields(file, path)):
        if field.start not in left_out:
            file.seek(field.start)
            for start in range(field.start, field.end, _CHUNK):
                yield file.read(min(_CHUNK, field.end - start))


def _entries(file: IO[bytes], path: PathLike) -> Iterator[tuple[_Field, tuple[str, str]]]:
    """Yield the entries of the metadata, each with its key and value."""
    for field in list(_fields(file, path)):
        size = field.end - field.content
        if field.number != _METADATA_PROPS or field.wire_type != _BYTES or size > _MAX_ENTRY:
            continue
        texts = {_KEY: "", _VALUE: ""}
        for part in list(_fields(file, path, field.content, field.end)):
            file.seek(part.content)
            texts[part.number] = file.read(part.end - part.content).decode(errors="replace")
        yield field, (texts[_KEY], texts[_VALUE])


def _fields(
    file: IO[bytes], path: PathLike, start: int = 0, end: int | None = None
) -> Iterator[_Field]:
    """Yield the fields of the message that lies from `start` to `end`, by default the file."""
    is_model = end is None
    end = file.seek(0, 2) if end is None else end
    known = _FIELDS if is_model else {_KEY, _VALUE}
    if start == end and is_model:
        raise UserError(f"{path}: expected an ONNX file, got an empty one")
    while start < end:
        file.seek(start)
        head = file.read(min(20, end - start))  # the longest number has 10 bytes
        tag, at = _varint(head, 0)
        number, wire_type = tag >> 3, tag & 7
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire_type, 0)
        if wire_type == _BYTES:
            size, at = _varint(head, at)
        elif wire_type == _VARINT:
            _, at = _varint(head, at)
        content = start + at
        is_cut = at > len(head) or content + size > end
        if is_cut or number not in known or wire_type not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise UserError(
                f"{path}: expected an ONNX file, got another one, or one that is damaged or cut "
                f"short (at byte {start})"
            )
        yield _Field(number, wire_type, start, content, content + size)
        start = content + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at an index, seven bits a byte, and the index behind it, which is beyond
    the data where the number is cut short."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    return 0, len(data) + 1


def _pack(number: int, content: bytes) -> bytes:
    """Return a field of bytes."""
    return _pack_varint(number << 3 | _BYTES) + _pack_varint(len(content)) + content


def _pack_varint(value: int) -> bytes:
    packed = bytearray()
    while value >= 0x80:
        packed.append(value & 0x7F | 0x80)
        value >>= 7
    packed.append(value)
    return bytes(packed)
