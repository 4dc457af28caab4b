"""Text and images that try to run code, unfold to more than memory, or nest without end."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image


def yaml_files() -> Iterator[tuple[str, bytes]]:
    """Yield yaml; each gives an error or plain values, and soon."""
    tags = (
        *("python/object/apply:os.system", "python/object/new:os.system", "python/name:os.system"),
        *("python/module:os", "python/object:os.system", "python/object/apply:eval", "python/none"),
        *("python/object/apply:builtins.eval", "python/object/apply:subprocess.Popen", "binary"),
        *("python/object/apply:__builtin__.eval", "python/str", "python/long", "python/complex"),
        *("set", "omap", "pairs", "timestamp", "python/bytes", "python/dict", "python/list"),
    )
    for tag in tags:
        for value in ('["touch HACKED"]', "touch HACKED", "{a: b}", "[]"):
            yield f"!!{tag} {value}", f"A: !!{tag} {value}\n".encode()
    yield "verbatim tag", b"A: !<tag:yaml.org,2002:python/object/apply:os.system> [ls]\n"
    yield (
        "named tag",
        b"%TAG !p! tag:yaml.org,2002:python/\n---\nA: !p!object/apply:os.system [ls]\n",
    )
    evaluated = (
        *("__import__('os').system('ls')", "[x for x in ().__class__.__bases__]", "[9**9**9]"),
        *(
            "[x for x in range(10**9)]",
            "[(lambda: 0)() for x in range(3)]",
            "[x**x for x in range(9)]",
        ),
        *(
            "[x for x in range(9) if open('HACKED', 'w')]",
            "[1 << x for x in range(99)]",
            "1/0",
            "[[]]",
        ),
        *("[x * 'a' for x in range(3)]", "[int('9' * x) for x in range(9)]", "[-" * 90 + "1"),
        *(
            "[" + "-" * 180 + "x for x in range(3)]",
            "[" + "(" * 90 + "x" + ")" * 90 + " for x in range(2)]",
        ),
    )
    for text in evaluated:
        quoted = text.replace('"', "'")
        yield f"eval {text:.30}", f'A: !!python/object/apply:eval ["{quoted}"]\n'.encode()
    laughs = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    yield "laughs", f"a0: &a0 [1, 1]\n{laughs}".encode()
    yield "laughs as a key", f"a0: &a0 [1, 1]\n{laughs}? *a9\n: 1\n".encode()
    merges = "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], b{i}: 1}}\n" for i in range(1, 25))
    yield "laughs of merges", f"a0: &a0 {{b: 1}}\n{merges}".encode()
    yield "in itself", b"A: &a [*a]\n"
    yield "mapping in itself", b"A: &a {b: *a}\n"
    yield "merge of itself", b"A: &a {<<: *a}\n"
    yield "deep flow", b"A: " + b"[" * 100_000
    yield "deep closed flow", b"A: " + b"[" * 20_000 + b"]" * 20_000
    yield "deep mappings", b"A: " + b"{a: " * 20_000
    yield "deep blocks", b"- " * 20_000 + b"a"
    yield "long number", b"A: " + b"9" * 1_000_000
    yield "sexagesimal", b"A: 1" + b":59" * 20_000
    yield "long float", b"A: 1." + b"_" * 100_000
    yield "underscores", b"A: " + b"1_" * 50_000
    yield "long key", b"a" * 100_000 + b": 1"
    yield "quotes", b"A: '" + b"''" * 100_000
    yield "escapes", b'A: "' + b"\\x41" * 100_000
    yield "comments", b"#" * 1_000_000
    yield "documents", b"---\nA: 1\n" * 1000
    yield "nul", b"A: \0"
    yield "utf-16", "A: 1".encode("utf-16")
    yield "bases", b"_BASE_: [/etc/passwd, ../../../etc/shadow]"
    yield "base on the web", b"_BASE_: http://127.0.0.1:9/a.yaml"
    yield "base through detectron2", b"_BASE_: detectron2://a.yaml"
    yield "base that is itself", b"_BASE_: hostile.yaml"
    yield "device as base", b"_BASE_: /dev/zero"


def json_files() -> Iterator[tuple[str, bytes]]:
    """Yield json; each gives an error."""
    depth = 100_000
    yield "deep lists", b"[" * depth
    yield "deep closed lists", b"[" * depth + b"]" * depth
    yield "deep objects", b'{"a":' * depth
    yield "deep closed objects", b'{"a":' * depth + b"1" + b"}" * depth
    start = b'{"images":[{"id":1,"height":9,"width":9}],"categories":[{"id":1,"name":"a"}],'
    start += b'"annotations":'
    for nested in (500, 900, 5000):
        mask = b"[" * nested + b"1" + b"]" * nested
        entry = b'[{"image_id":1,"category_id":1,"segmentation":' + mask + b"}]}"
        yield f"mask of depth {nested}", start + entry
        yield f"box of depth {nested}", start + entry.replace(b"segmentation", b"bbox")
        yield f"id of depth {nested}", start + entry.replace(b"category_id", b"id", 1)
        yield f"area of depth {nested}", start + entry.replace(b'"segmentation"', b'"area"')
    yield "long number", start + b"[" + b"9" * 1_000_000 + b"]}"
    yield "long float", start + b"[0." + b"9" * 1_000_000 + b"]}"
    yield "large exponent", start + b"[1e" + b"9" * 1_000_000 + b"]}"
    yield "long text", start + b'"' + b"\\u0041" * 500_000 + b'"}'
    yield "many keys", b"{" + b",".join(b'"%d":0' % i for i in range(100_000)) + b"}"
    yield "the same key", b"{" + b",".join([b'"a":0'] * 100_000) + b"}"
    yield "many backslashes", b'"' + b"\\" * 1_000_000
    yield "spaces", b" " * 5_000_000
    yield "nuls", bytes(1_000_000)
    for counts in (
        b'"' + b"o" * 500_000 + b'"',
        b"[" + b"0," * 200_000 + b"81]",
        b'"~~~~~~~~~~~~0"',
    ):
        rle = b'{"size":[9,9],"counts":' + counts + b"}"
        yield (
            f"counts {counts[:8]!r}",
            start + b'[{"image_id":1,"category_id":1,"segmentation":' + rle + b"}]}",
        )
    for size in (b"[65535,65535]", b"[4294967295,1]", b"[1e9,1e9]", b"[9,99999999999999999999]"):
        rle = b'{"size":%s,"counts":[%s]}' % (size, b"4294836225")
        image = start.replace(b'"height":9,"width":9', b'"height":65535,"width":65535')
        for head in (
            start,
            image,
            start.replace(b'"height":9,"width":9', b'"height":1e9,"width":1e9'),
        ):
            yield (
                f"size {size!r} {len(head)}",
                head + b'[{"image_id":1,"category_id":1,"segmentation":' + rle + b"}]}",
            )
    far = b"[[" + b",".join([b"0,0,999999,0,999999,999999"] * 2000) + b"]]"
    yield (
        "endless outline",
        start + b'[{"image_id":1,"category_id":1,"segmentation":' + far + b"}]}",
    )


def images() -> Iterator[tuple[str, str, bytes]]:
    """Yield name, suffix and content of images; each gives an error or pixels, and soon."""
    for width, height in ((65535, 65535), (2**31 - 1, 1), (1, 2**31 - 1), (40_000, 40_000), (0, 0)):
        yield f"PNG {width}x{height}", ".png", _png(width, height, zlib.compress(bytes(10_000_000)))
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        bomb = b"a\0\0" + (b"\0\0\0"[: 2 * (kind == b"iTXt")]) + zlib.compress(bytes(80_000_000), 1)
        yield f"{kind.decode()} bomb", ".png", _png(4, 4, zlib.compress(bytes(64)), (kind, bomb))
    for frames in (0, 2**31 - 1, 2**32 - 1):
        control = (b"acTL", struct.pack(">II", frames, 0))
        yield f"APNG of {frames} frames", ".png", _png(4, 4, zlib.compress(bytes(64)), control)
    many = [(b"tEXt", b"a\0b")] * 50_000
    yield "many chunks", ".png", _png(4, 4, zlib.compress(bytes(64)), *many)
    yield "long row of zeros", ".png", _png(4, 4, zlib.compress(bytes(80_000_000), 1))
    small = Image.fromarray(np.zeros((2, 2), np.uint8))
    gif = _saved(small, "gif")
    for size in (b"\xff\xff\xff\xff",):
        yield "large GIF", ".gif", gif[:6] + size + gif[10:]
    frame = gif[gif.index(b"\x2c") : -1]
    yield "GIF of many frames", ".gif", gif[:-1] + frame * 30_000 + b";"
    large = frame[:5] + b"\xff\xff\xff\xff" + frame[9:]
    yield "GIF of large frames", ".gif", gif[:-1] + large * 50 + b";"
    tiff = _saved(small, "tiff")
    first = struct.unpack("<I", tiff[4:8])[0]
    (count,) = struct.unpack("<H", tiff[first : first + 2])
    link = first + 2 + 12 * count
    yield "TIFF of endless pages", ".tif", tiff[:link] + struct.pack("<I", first) + tiff[link + 4 :]
    for tag, value in (
        (256, 2**32 - 1),
        (257, 2**31),
        (277, 65535),
        (258, 65535),
        (259, 50000),
        (278, 0),
    ):
        yield f"TIFF tag {tag}", ".tif", _tiff_tag(tiff, first, count, tag, value)
    bmp = _saved(small, "bmp")
    for side in (2**31 - 1, -(2**31), 100_000, 0, -1):
        yield f"BMP {side}", ".bmp", bmp[:18] + struct.pack("<ii", side, side) + bmp[26:]
    jpeg = _saved(small.convert("RGB"), "jpeg")
    at = jpeg.index(b"\xff\xc0")
    for side in (65500, 0):
        yield (
            f"JPEG {side}",
            ".jpg",
            jpeg[: at + 5] + struct.pack(">HH", side, side) + jpeg[at + 9 :],
        )
    scans = jpeg[jpeg.index(b"\xff\xda") : -2]
    yield "JPEG of many scans", ".jpg", jpeg[:-2] + scans * 20_000 + b"\xff\xd9"
    for head in (
        b"P6 99999 99999 255\n",
        b"P1 99999 9999\n",
        b"P5 4 4 65535\n",
        b"P3 -1 -1 255\n",
        b"Pf\n9 9\n0\n",
    ):
        yield f"{head!r}", ".ppm", head + b"0" * 64
    for suffix in ("webp", "ico", "tga", "pcx", "dds", "sgi", "jp2"):
        data = _saved(small.convert("RGB"), suffix)
        for at in range(4, min(len(data), 40), 3):
            yield f"{suffix} {at}", f".{suffix}", data[:at] + b"\xff\xff\xff" + data[at + 3 :]


def png() -> bytes:
    """Return a sound image."""
    return _saved(Image.fromarray(np.zeros((4, 4), np.uint8)), "png")


def _saved(image: Image.Image, suffix: str) -> bytes:
    content = io.BytesIO()
    image.save(content, {"tif": "tiff", "jp2": "jpeg2000"}.get(suffix, suffix))
    return content.getvalue()


def _png(width: int, height: int, pixels: bytes, *more: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )


def _tiff_tag(data: bytes, first: int, count: int, tag: int, value: int) -> bytes:
    for i in range(count):
        at = first + 2 + 12 * i
        if struct.unpack("<H", data[at : at + 2])[0] == tag:
            return data[: at + 2] + struct.pack("<HII", 4, 1, value) + data[at + 12 :]
    return data[:first]
