"""Damage done to files with their structure in mind, from a seeded generator."""

from __future__ import annotations

import itertools
import json
import pickle
import pickletools
import random
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from zipfile import ZipFile, ZipInfo

from tests.torture.fuzz.json_damage import ODD_VALUES, as_json, damaged_json
from tests.torture.fuzz.raw import damaged_bytes, damaged_text


def damaged_png(rng: random.Random, data: bytes) -> bytes:
    """Return a PNG of which a chunk is changed, its checksum right all the same in most cases."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    index = rng.randrange(len(chunks))
    kind, content = chunks[index]
    action = rng.randrange(6)
    if action == 0:
        chunks.insert(index, chunks[rng.randrange(len(chunks))])
    elif action == 1:
        del chunks[index]
    elif action == 2 and kind == b"IDAT":
        raw = damaged_bytes(rng, zlib.decompress(content)) if len(chunks) < 20 else content
        chunks[index] = (kind, zlib.compress(raw))
    elif action == 3:
        kinds = (b"PLTE", b"tRNS", b"iTXt", b"zTXt", b"iCCP", b"gAMA", b"eXIf", b"acTL", b"fdAT")
        chunks.insert(
            index,
            (rng.choice(kinds), bytes(rng.choices(range(256), k=rng.choice((0, 1, 13, 300))))),
        )
    else:
        chunks[index] = (kind, damaged_bytes(rng, content))
    parts = [data[:8]]
    for kind, content in chunks:
        crc = zlib.crc32(kind + content)
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc))
    return b"".join(parts)


def damaged_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Return a file of safetensors whose header, mostly, is damaged as json."""
    if rng.random() < 0.4:
        return damaged_bytes(rng, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = as_json(rng, damaged_json(rng, json.loads(data[8 : 8 + length])))
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def damaged_onnx(rng: random.Random, data: bytes) -> bytes:
    """Return an ONNX file whose metadata, its last field, are damaged as json, mostly, in a field
    that is right."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    at = data.index(b"{")
    text = as_json(rng, damaged_json(rng, json.loads(data[at:])))
    entry = pack(1, b"mask2former") + pack(2, text)
    rest = data[: data.index(b"\x72")]
    return rest + pack(14, entry) * rng.choice((1, 1, 1, 2))


def pack(number: int, content: bytes) -> bytes:
    """Return a field of bytes of a protobuf message, whose number is below 16."""
    length, packed = len(content), bytearray([number << 3 | 2])
    while length >= 128:
        packed.append(length % 128 | 128)
        length //= 128
    return bytes(packed) + bytes([length]) + content


def damaged_pickle(rng: random.Random, data: bytes) -> bytes:
    """Return a pickle with its instructions changed, doubled, moved or mixed with others'."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    positions = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    steps = [data[a:b] for a, b in itertools.pairwise(positions)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(steps)), rng.randrange(len(steps))
        kind = rng.randrange(6)
        if kind == 0:
            del steps[at]
        elif kind == 1:
            steps.insert(at, steps[other])
        elif kind == 2:
            steps[at], steps[other] = steps[other], steps[at]
        elif kind == 3:
            steps.insert(at, rng.choice(_STEPS))
        elif kind == 4:
            steps[at] = rng.choice(_STEPS)
        else:
            steps[at] = steps[at][:1] + damaged_bytes(rng, steps[at][1:])
        steps = steps or [b"."]
    return b"".join(steps)


def _odd_steps() -> tuple[bytes, ...]:
    values = [
        pickle.dumps(v, 2)[2:-1] for v in (None, -1, 2**31, 2**70, 1e308, "x", (), (1, 2), [], {})
    ]
    letters = b"()}]0NR012abdehjltuosp\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"
    names = ("collections OrderedDict", "torch FloatStorage", "torch Size", "builtins set")
    globals_ = [f"c{name}\n".replace(" ", "\n").encode() for name in names]
    return (*values, *(bytes([letter]) for letter in letters), *globals_, b"h\x00", b"K\xff", b"Q")


_STEPS = _odd_steps()


def damaged_zip(rng: random.Random, data: bytes, inner: Callable) -> bytes:
    """Return an archive of which one member is damaged by ``inner``, renamed, or the bytes are."""
    if rng.random() < 0.4:
        return damaged_bytes(rng, data)
    out = BytesIO()
    with ZipFile(BytesIO(data)) as source, ZipFile(out, "w") as target:
        names = source.namelist()
        chosen = rng.choice([name for name in names if name.endswith(".pkl")] * 3 + names)
        renamed = rng.random() < 0.1
        for name in names:
            content = source.read(name)
            if name == chosen and not renamed:
                content = (
                    inner(rng, content) if name.endswith(".pkl") else damaged_bytes(rng, content)
                )
            elif name == chosen:
                name = damaged_text(rng, name).replace("\0", "")
            target.writestr(ZipInfo(name or "a"), content)
    return out.getvalue()


def damaged_yaml(rng: random.Random, data: bytes) -> bytes:
    """Return yaml with lines or words of it changed."""
    lines = data.decode().split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        kind = rng.randrange(6)
        name, colon, _ = lines[at].partition(":")
        if kind == 0:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 1:
            lines[at] = rng.choice((" ", "  ", "\t", "- ")) + lines[at]
        elif kind == 2:
            lines[at] = damaged_text(rng, lines[at])
        elif kind == 3 and colon:
            lines[at] = f"{name}: {rng.choice(_YAML)}"
        elif kind == 4 and colon:
            lines[at] = f"{name}: {json.dumps(rng.choice(ODD_VALUES))}"
        else:
            del lines[at]
        lines = lines or [""]
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    return damaged_bytes(rng, text) if rng.random() < 0.2 else text


_YAML = (
    *(
        "&a [*a]",
        "*a",
        "!!python/object/apply:os.system [ls]",
        "!!python/name:os.system",
        "!!set {a}",
    ),
    *(
        "!!binary aGk=",
        "2001-01-01",
        "0x7fffffff",
        "1_000",
        "1:30:30",
        ".inf",
        ".nan",
        "~",
        "{a: b}",
    ),
    *('!!python/object/apply:eval ["[x for x in range(9)]"]', '!!python/object/apply:eval ["1/0"]'),
    *(
        "!!int x",
        "!!float x",
        "!!python/tuple [1, 2]",
        "!!python/tuple x",
        "? a",
        "|",
        ">",
        "'",
        '"',
    ),
    *(
        "[[[[[[]]]]]]",
        "<<",
        "{<<: *a}",
        "!",
        "!<x>",
        "%",
        "@",
        "`",
        "(1, 2)",
        "[1, 2",
        "__import__",
    ),
    *("9" * 5000, "1e999", "'(' * 99", "[" * 300, "-" * 300, "lambda: 0", "'\\ud800'", '"\\ud800"'),
)
