"""What is read in parts: TIFF in windows, and archives of images."""

import io
import random
import struct
import tarfile
from functools import cache
from pathlib import Path

import numpy as np

from mask2former.formats.images import read_image
from mask2former.formats.rasters import open_raster
from mask2former.predict.job.inputs import find_items
from mask2former.predict.job.items import IMAGE
from tests.torture.fuzz import corpus
from tests.torture.fuzz.models import write
from tests.torture.fuzz.raw import damaged_bytes

_TAGS = (256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 322, 323, 324, 330, 338, 42113)
_VALUES = (0, 1, 2, 3, 7, 8, 16, 17, 255, 65535, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
_FIELDS = ((0, 100), (108, 8), (124, 12), (136, 12), (156, 1), (257, 8), (345, 155))  # of tar


def tiff(rng: random.Random, stem: Path) -> None:
    path = write(stem.with_suffix(".tif"), _damaged_tiff(rng, rng.choice(_tiffs())))
    raster = open_raster(path, rng.choice(((), (), (1,), (1, 2, 3))))
    height, width = min(raster.size[0], 2000), min(raster.size[1], 100)
    for y in range(0, height, 16):
        rows = slice(y, min(y + 16, height))
        assert raster.read(rows, slice(0, width)).shape == (rows.stop - y, width, 3)
    raster.close()


def archive(rng: random.Random, stem: Path) -> None:
    path = write(stem.with_suffix(".tar"), _damaged_tar(rng, _tar()))
    for item in find_items([str(path)]):
        if item.kind == IMAGE:
            read_image(item.source(Path("/")))


@cache
def _tiffs() -> tuple[bytes, ...]:
    import tifffile

    colours = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    deep = colours[..., 0].astype(np.uint16) * 9
    forms = (
        (colours, {"photometric": "rgb", "rowsperstrip": 8}),
        (colours, {"photometric": "rgb", "tile": (16, 16), "compression": "zlib"}),
        (np.moveaxis(colours, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (deep, {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        (deep, {"bigtiff": True, "byteorder": ">", "rowsperstrip": 16}),
        (np.stack([deep] * 3), {"metadata": {"axes": "CYX"}, "ome": True}),
    )
    found = []
    for pixels, options in forms:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, **options)
        found.append(buffer.getvalue())
    return tuple(found)


def _damaged_tiff(rng: random.Random, data: bytes) -> bytes:
    """Return a TIFF of which an entry of the first page, or the place of the next, is changed."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    content, order = bytearray(data), "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    number, count, size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    (first,) = struct.unpack_from(order + number, data, 8 if is_big else 4)
    (entries,) = struct.unpack_from(order + count, data, first)
    start = first + struct.calcsize(count)
    for _ in range(rng.choice((1, 1, 2))):
        at, value = start + rng.randrange(entries) * size, rng.choice((*_VALUES, first))
        kind = rng.randrange(5)
        if kind == 0:
            struct.pack_into(order + "H", content, at, rng.choice(_TAGS))
        elif kind == 1:
            struct.pack_into(order + "H", content, at + 2, rng.randrange(19))
        elif kind == 2:
            struct.pack_into(order + number, content, at + 4, value)
        elif kind == 3:
            struct.pack_into(order + number, content, at + size - struct.calcsize(number), value)
        else:
            struct.pack_into(order + number, content, start + entries * size, value)
    return bytes(content)


@cache
def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in ("a.png", "b/" + "c" * 120 + ".png"):
            member = tarfile.TarInfo(name)
            content = corpus.picture("rgb.png")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _damaged_tar(rng: random.Random, data: bytes) -> bytes:
    """Return an archive of which a field of a head is changed, its checksum right all the same."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    content = bytearray(data)
    head = rng.randrange(len(content) // 512) * 512
    at, length = rng.choice(_FIELDS)
    odd = (
        b"7" * length,
        b"\x80" + b"\xff" * (length - 1),
        b"-1".ljust(length, b"\0"),
        bytes(length),
    )
    field = (
        rng.choice(odd)
        if length > 1
        else rng.choice((b"0", b"1", b"5", b"L", b"K", b"x", b"g", b"S"))
    )
    content[head + at : head + at + length] = field[:length]
    content[head + 148 : head + 156] = b" " * 8
    content[head + 148 : head + 156] = b"%06o\0 " % sum(content[head : head + 512])
    return bytes(content)
