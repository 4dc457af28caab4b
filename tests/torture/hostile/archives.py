"""Archives of torch, and files of safetensors, with all quirks of a zip or a header."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from tests.torture.hostile import pickles

_HOSTILE = pickles.PROTO + pickles.WAYS["reduce"]("os", "system") + b"."


def sound() -> bytes:
    content = io.BytesIO()
    torch.save({"w": torch.arange(6.0), "n": torch.tensor(7)}, content)
    return content.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: list[tuple[str, bytes]], **options: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def _patched(
    data: bytes, signature: bytes, offset: int, value: bytes, *, last: bool = False
) -> bytes:
    """Return an archive with bytes replaced in the first, or last, record of a kind."""
    at = data.rindex(signature) if last else data.index(signature)
    return data[: at + offset] + value + data[at + offset + len(value) :]


def archives() -> Iterator[tuple[str, bytes]]:
    """Yield archives; each gives an error, or exactly the weights of `sound`."""
    data = sound()
    files = list(members(data).items())
    root = files[0][0].partition("/")[0]
    pickled = f"{root}/data.pkl"
    yield from _records(data)
    for name in (
        "../data.pkl",
        "/etc/data.pkl",
        "C:\\data.pkl",
        "a/../data.pkl",
        "",
        "/",
        "data.pkl",
    ):
        renamed = [(name if n == pickled else n, c) for n, c in files]
        yield f"data.pkl as {name!r}", packed(renamed)
    for name in ("../../HACKED", "/tmp/HACKED", "a\0b", "é", "x" * 60_000, f"{root}/data/../../x"):
        yield f"more {name[:20]!r}", packed([*files, (name, b"x")])
    hostile = [(n, _HOSTILE if n == pickled else c) for n, c in files]
    yield "hostile data.pkl", packed(hostile)
    yield "hostile before", packed([(pickled, _HOSTILE), *files])
    yield "hostile behind", packed([*files, (pickled, _HOSTILE)])
    yield "hostile in another root", packed([*files, ("other/data.pkl", _HOSTILE)])
    yield "hostile first, in another root", packed([("other/data.pkl", _HOSTILE), *files])
    yield "hostile constants.pkl", packed([*files, (f"{root}/constants.pkl", _HOSTILE)])
    yield "code", packed([*files, (f"{root}/code/__torch__.py", b"import os; os.system('HACKED')")])
    yield "data twice", packed([*files, *files])
    yield "zip in zip", packed([(pickled, data)])
    yield "many zips in zips", _zips_in_zips(pickled)
    yield "many members", packed([*files, *((f"{root}/{i}", b"") for i in range(5000))])
    yield "no members", packed([])
    yield "no storages", packed([f for f in files if "/data/" not in f[0]])
    yield "big endian", packed([(n, b"big" if n.endswith("byteorder") else c) for n, c in files])
    long = bytes(8_000_000)
    yield "long byteorder", packed([(n, long if n.endswith("byteorder") else c) for n, c in files])
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", kind) as archive:
            for name, content in files:
                archive.writestr(name, content if name == pickled else bytes(4_000_000))
        yield f"bomb of method {kind}", bomb.getvalue()
    yield from _other_formats(data)


def _records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield archives whose records contradict each other."""
    local, central, end = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
    for where, signature, shift in (("local", local, 0), ("central", central, 2)):
        for last in (False, True):
            name = f"{where}, {'last' if last else 'first'}"
            options = {"last": last}
            yield f"password, {name}", _patched(data, signature, 6 + shift, b"\x01\0", **options)
            yield f"strong, {name}", _patched(data, signature, 6 + shift, b"\x41\0", **options)
            yield f"method 8, {name}", _patched(data, signature, 8 + shift, b"\x08\0", **options)
            yield f"method 99, {name}", _patched(data, signature, 8 + shift, b"\x63\0", **options)
            yield f"crc, {name}", _patched(data, signature, 14 + shift, b"abcd", **options)
            for size in (0, 1, 2**31, 2**32 - 1):
                value = struct.pack("<II", size, size)
                yield (
                    f"sizes {size}, {name}",
                    _patched(data, signature, 18 + shift, value, **options),
                )
            yield f"name, {name}", _patched(data, signature, 26 + shift, b"\xff\xff", **options)
            yield f"extra, {name}", _patched(data, signature, 28 + shift, b"\xff\xff", **options)
    for offset in (0, 4, len(data), 2**32 - 2):
        value = struct.pack("<I", offset)
        yield f"header at {offset}", _patched(data, central, 42, value)
        yield f"last header at {offset}", _patched(data, central, 42, value, last=True)
        yield f"directory at {offset}", _patched(data, end, 16, value)
        yield f"directory of {offset} bytes", _patched(data, end, 12, value)
    yield "many entries", _patched(data, end, 8, b"\xff\xff\xff\xff")
    yield "another disk", _patched(data, end, 4, b"\x07\0\x07\0")
    yield "comment", _patched(data, end, 20, b"\xff\xff")
    yield "junk before", b"junk" * 10 + data
    yield "junk behind", data + b"junk" * 1000
    yield "two archives", data + data
    yield "second end", data + data[data.rindex(end) :]
    yield "no end", data[: data.rindex(end)]
    yield "no directory", data[: data.index(central)]
    yield "only the signature", local
    yield "end alone", data[data.rindex(end) :]


def _zips_in_zips(pickled: str) -> bytes:
    inner = packed([(pickled, b"x")])
    for _ in range(30):
        inner = packed([(pickled, inner)])
    return inner


def _other_formats(data: bytes) -> Iterator[tuple[str, bytes]]:
    signs = {
        "7z": b"7z\xbc\xaf\x27\x1c\0\x04",
        "rar": b"Rar!\x1a\x07\x01\0",
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0",
        "xz": b"\xfd7zXZ\0",
        "bzip2": b"BZh9",
        "zstd": b"\x28\xb5\x2f\xfd",
        "HDF5": b"\x89HDF\r\n\x1a\n",
        "ELF": b"\x7fELF",
        "GGUF": b"GGUF",
        "script": b"#!/bin/sh\ntouch HACKED\n",
    }
    for name, sign in signs.items():
        yield name, sign + data


def safetensors() -> Iterator[tuple[str, bytes]]:
    """Yield files of safetensors; each gives an error or a result."""

    def with_header(header: Any, body: bytes = bytes(64), length: int | None = None) -> bytes:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(raw) if length is None else length) + raw + body

    def one(**entry: Any) -> dict[str, Any]:
        return {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | entry}

    for length in (0, 1, 2**31, 2**63, 2**64 - 1):
        yield f"length {length}", with_header(one(), length=length)
    for dtype in ("F33", "", None, 7, "U64", "BOOL", "F8_E4M3", "C64", "os.system"):
        yield f"dtype {dtype}", with_header(one(dtype=dtype))
    for shape in ([2**40, 2**40], [2**63], [-1], [0, 2**62], [], [1] * 5000, "x", [[4]], [4.5]):
        yield f"shape {shape!r:.20}", with_header(one(shape=shape))
    for offsets in ([0, 2**63], [16, 0], [-16, 0], [0, 17], [48, 64], [0], [], None, [0, 1 << 70]):
        yield f"offsets {offsets}", with_header(one(data_offsets=offsets))
    yield "overlap", with_header(one() | {"v": one()["w"]})
    yield (
        "hole",
        with_header(one() | {"v": {"dtype": "F32", "shape": [4], "data_offsets": [32, 48]}}),
    )
    yield "twice", with_header(b'{"w":%s,"w":%s}' % ((json.dumps(one()["w"]).encode(),) * 2))
    yield "deep", with_header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "long", with_header(b" " * 5_000_000 + b"{}")
    yield "metadata", with_header(one() | {"__metadata__": {"a": 1}})
    yield "deep metadata", with_header(one() | {"__metadata__": {"classes": "[" * 50_000}})
    yield (
        "names",
        with_header(
            one() | {"../../HACKED\0": {"dtype": "F32", "shape": [0], "data_offsets": [16, 16]}}
        ),
    )
    yield (
        "many",
        with_header(
            {str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}
        ),
    )
