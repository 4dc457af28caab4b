"""Pickles that try to run code or to exhaust the machine, written instruction by instruction."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterator

import numpy as np
import torch

PROTO = b"\x80\x04"

TARGETS = (
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "__import__"),
    ("builtins", "open"),
    ("builtins", "getattr"),
    ("builtins", "compile"),
    ("builtins", "breakpoint"),
    ("__builtin__", "apply"),
    ("__builtin__", "execfile"),
    ("subprocess", "Popen"),
    ("importlib", "import_module"),
    ("runpy", "_run_code"),
    ("pty", "spawn"),
    ("ctypes", "CDLL"),
    ("socket", "create_connection"),
    ("shutil", "rmtree"),
    ("pathlib", "Path.write_text"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("marshal", "loads"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("functools", "partial"),
    ("functools", "reduce"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("copyreg", "_reconstructor"),
    ("copyreg", "add_extension"),
    ("timeit", "timeit"),
    ("cProfile", "run"),
    ("pdb", "run"),
    ("code", "interact"),
    ("webbrowser", "open"),
    ("pip", "main"),
    ("site", "main"),
    ("numpy", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("torch", "load"),
    ("torch.serialization", "load"),
    ("torch.hub", "load"),
    ("torch.jit", "load"),
    ("torch.utils.cpp_extension", "load_inline"),
    ("torch._C", "_LegacyStorage"),
    ("torch._utils", "_import_dotted_name"),
    ("torch.distributed.rpc.internal", "_run_function"),
    ("detectron2.config", "LazyConfig.load"),
    ("mask2former.checkpoints.storage.safe_pickle", "_Unpickler"),
    ("mask2former.checkpoints.storage.safe_pickle", "partial"),
    ("collections", "OrderedDict.fromkeys"),
    ("collections", "OrderedDict.__init__.__globals__"),
    ("collections", "namedtuple"),
    ("torch", "Tensor.__reduce_ex__"),
    ("torch", "classes.load_library"),
    ("", "system"),
    ("os\0", "system"),
    ("os", ""),
)


def text(value: str) -> bytes:
    """Return the instruction that pushes a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def dotted(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


_ARGUMENT = text("touch HACKED") + b"\x85"

# Each pushes module.name called, or what amounts to it.
WAYS: dict[str, Callable[[str, str], bytes]] = {
    "reduce": lambda m, n: dotted(m, n) + _ARGUMENT + b"R",
    "stacked": lambda m, n: text(m) + text(n) + b"\x93" + _ARGUMENT + b"R",
    "memo": lambda m, n: text(n) + b"q\x07" + text(m) + b"q\x080h\x08h\x07\x93" + _ARGUMENT + b"R",
    "inst": lambda m, n: b"(" + text("touch HACKED") + f"i{m}\n{n}\n".encode(),
    "obj": lambda m, n: b"(" + dotted(m, n) + text("touch HACKED") + b"o",
    "newobj": lambda m, n: dotted(m, n) + _ARGUMENT + b"\x81",
    "newobj_ex": lambda m, n: dotted(m, n) + _ARGUMENT + b"}\x92",
    "build": lambda m, n: dotted(m, n) + b"}" + text("x") + text("y") + b"sb",
    "state": lambda m, n: b"ccollections\nOrderedDict\n)R" + dotted(m, n) + _ARGUMENT + b"Rb",
    "key": lambda m, n: b"}" + dotted(m, n) + _ARGUMENT + b"RNs",
    "popped": lambda m, n: b"N" + dotted(m, n) + _ARGUMENT + b"R0",
    "reference": lambda m, n: dotted(m, n) + _ARGUMENT + b"RQ",
    "framed": lambda m, n: (
        b"\x95" + struct.pack("<Q", 3) + b"NNN" + dotted(m, n) + _ARGUMENT + b"R"
    ),
    "factory": lambda m, n: b"ccollections\ndefaultdict\n" + dotted(m, n) + b"\x85R",
    "argument": lambda m, n: b"cbuiltins\nlist\n(" + dotted(m, n) + _ARGUMENT + b"Rt\x85R",
}


def code() -> Iterator[tuple[str, bytes]]:
    """Yield pickles that name or call what is no data; each has to be refused."""
    for module, name in TARGETS:
        yield f"{module}.{name}", PROTO + WAYS["reduce"](module, name) + b"."
        yield f"{module}.{name} stacked", PROTO + WAYS["stacked"](module, name) + b"."
    for way, build in WAYS.items():
        for module, name in TARGETS[:4]:
            hostile = build(module, name)
            yield f"{way} {module}.{name}", PROTO + hostile + b"."
            yield f"{way} {module}.{name} in a dict", PROTO + b"}" + text("model") + hostile + b"s."
    inner = PROTO + WAYS["reduce"]("os", "system") + b"."
    for depth in (1, 2, 5, 20):
        yield f"in {depth} storages", _nested(inner, depth)
    for letter, form in ((b"\x82", "<B"), (b"\x83", "<H"), (b"\x84", "<i")):
        for number in (0, 1, 240):
            yield f"extension {number} {form}", PROTO + letter + struct.pack(form, number) + b"."


def _load_from_bytes(data: bytes) -> bytes:
    return (
        dotted("torch.storage", "_load_from_bytes")
        + (b"B" + struct.pack("<I", len(data)) + data + b"\x85R")
    )  # fmt: skip


def _nested(data: bytes, depth: int) -> bytes:
    for _ in range(depth):
        data = PROTO + _load_from_bytes(data) + b"."
    return data


def _doubled(depth: int, start: bytes = b"K\x01", pair: bytes = b"\x86") -> bytes:
    """Push pairs of pairs of pairs ..., each of which holds the one before it twice."""
    steps = [start]
    for i in range(depth):
        put = b"r" + struct.pack("<I", 1000 + i)
        get = b"j" + struct.pack("<I", 1000 + i)
        steps.append(put + get + pair)
    return b"".join(steps)


def exhausting() -> Iterator[tuple[str, bytes]]:
    """Yield pickles that claim much, nest deeply, or unfold; an error or a result, and soon."""
    deep = 100_000
    yield "deep tuples", PROTO + b")" + b"\x85" * deep + b"."
    yield "deep lists", PROTO + b"(" * deep + b"l" * deep + b"."
    yield "deep dicts", PROTO + b"}" + b"K\x01}" * deep + b"s" * deep + b"."
    yield "many marks", PROTO + b"(" * deep + b"."
    yield "many doubles", PROTO + b"]" + b"2" * deep + b"."
    yield "pops of nothing", PROTO + b"0" * 50 + b"."
    yield "no stop", PROTO + b"N" * 50
    yield "pairs", PROTO + _doubled(60) + b"."
    yield "pairs as a key", PROTO + b"}" + _doubled(60) + b"Ns."
    yield "pairs in a set", PROTO + b"\x8f(" + _doubled(60) + b"\x90."
    yield "pairs in a frozen set", PROTO + b"(" + _doubled(60) + b"\x91."
    yield "pairs as a reference", PROTO + _doubled(60) + b"Q."
    yield "pairs in a reference", PROTO + _storage_reference(_doubled(60)) + b"."
    for name in ("torch\ndevice", "torch\nSize", "numpy\ndtype", "builtins\ncomplex"):
        yield f"pairs for {name!r}", PROTO + f"c{name}\n".encode() + _doubled(60) + b"\x85R."
    for name in ("builtins\nset", "builtins\ndict", "builtins\ntuple", "collections\nOrderedDict"):
        pairs = b"]" + _doubled(60) + b"N\x86a"
        yield f"pairs as items for {name!r}", PROTO + f"c{name}\n".encode() + pairs + b"\x85R."
    for letter in (b"h\xff", b"g77\n", b"j\xff\xff\xff\x7f", b"g-1\n", b"gx\n"):
        yield f"memo {letter!r}", PROTO + letter + b"."
    for letter in (b"r\xff\xff\xff\xff", b"p99999999999\n", b"p-1\n"):
        yield f"put {letter!r}", PROTO + b"N" + letter + b"."
    for letter, form in (*_LENGTHS, (b"\x95", "<Q"), (b"\x8b", "<i"), (b"T", "<i")):
        for length in (2**31 - 1, 2**63 - 1):
            size = struct.calcsize(form)
            number = length if size == 8 else min(length, 2 ** (8 * size - 1) - 1)
            yield f"length {letter!r} {length}", PROTO + letter + struct.pack(form, number) + b"ab."
    yield "long line of digits", PROTO + b"I" + b"9" * 10**6 + b"\n."
    yield "long number", PROTO + b"L" + b"9" * 10**6 + b"L\n."
    yield "long binary number", PROTO + b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b"."
    yield "long text of an int", PROTO + b"F" + b"9" * 10**6 + b"\n."
    yield "protocol 200", b"\x80\xc8N."
    yield "out of band", b"\x80\x05\x97."
    yield "readonly", b"\x80\x05\x97\x98."
    yield "list that holds itself", PROTO + b"]q\x00h\x00a."
    yield "dict that holds itself", PROTO + b"}q\x00Nh\x00s."
    yield "dict as its own key", PROTO + b"}q\x00h\x00Ns."
    yield from _arrays()


_LENGTHS = ((b"B", "<I"), (b"X", "<I"), (b"\x8e", "<Q"), (b"\x8d", "<Q"), (b"\x96", "<Q"))


def _storage_reference(key: bytes) -> bytes:
    storage = text("storage") + dotted("torch", "FloatStorage")
    return b"(" + storage + key + text("cpu") + b"K\x01tQ"


def _dtype(code: str, order: str) -> bytes:
    state = b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return dotted("numpy", "dtype") + text(code) + b"\x89\x88\x87R" + state


def _arrays() -> Iterator[tuple[str, bytes]]:
    """Yield arrays and tensors that claim more than there is, or are made from one text often."""
    array = dotted("numpy._core.multiarray", "_reconstruct") + b"q\x01"
    ndarray = dotted("numpy", "ndarray") + b"K\x00\x85B\x01\x00\x00\x00b\x87R"
    large = b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20)
    for code in ("f8", "S1", "U1", "S1048576"):
        setup = large + b"q\x05" + _dtype(code, ">") + b"q\x06"
        count = (1 << 20) // {"f8": 8, "S1": 1, "U1": 4, "S1048576": 1 << 20}[code]
        one = b"h\x01" + ndarray + b"(K\x01J" + struct.pack("<i", count) + b"\x85h\x06\x89h\x05tb"
        yield (
            f"one text as many arrays of {code}",
            PROTO + array + setup + b"](" + one * 500 + b"e.",
        )
    encode = dotted("_codecs", "encode") + b"q\x01"
    setup = encode + b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x02"
    setup += text("latin1") + b"q\x03"
    one = b"h\x01h\x02h\x03\x86R"
    yield "one text encoded often", PROTO + setup + b"](" + one * 1000 + b"e."
    memo = b"".join(b"Nr" + struct.pack("<I", i + 100) for i in range(20_000))
    one = b"h\x01h\x02q\x02h\x03\x86R0"
    yield "a long memo", PROTO + setup + memo + one * 2000 + b"N."
    for shape in (b"K\x00\x85", b"J\xff\xff\xff\xff\x85", b"J\xff\xff\xff\x7f\x85", b"N\x85", b"N"):
        one = (
            array
            + ndarray
            + b"(K\x01"
            + shape
            + _dtype("f4", "<")
            + b"\x89C\x08"
            + bytes(8)
            + b"tb"
        )
        yield f"shape {shape!r}", PROTO + one + b"."
    huge = b"\x8a\x09" + bytes(8) + b"\x01"
    zeros = b"(" + huge * 60 + b"t"
    one = array + ndarray + b"(K\x01" + zeros + _dtype("f4", "<") + b"\x89C\x08" + bytes(8) + b"tb"
    yield "shape of large numbers", PROTO + one + b"."
    for kind in ("OrderedDict", "Namespace", "list", "set", "tuple", "dict"):
        module = {"OrderedDict": "collections", "Namespace": "argparse"}.get(kind, "builtins")
        tensor = _strided(b"(J\xff\xff\xff\x7fK\x02t", b"(K\x00K\x00t")
        yield f"{kind} of a strided tensor", PROTO + dotted(module, kind) + tensor + b"\x85R."
        yield f"state of {kind}", PROTO + dotted(module, kind) + b")R" + tensor + b"b."
    yield "dict update", PROTO + b"}(" + _strided(b"K\x03\x85", b"K\x00\x85") + b"Nu."
    for size, stride in (
        (b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),
        (b"J\xff\xff\xff\x7f\x85", b"K\x01\x85"),
    ):
        weights = b"}" + text("w") + _strided(size, stride) + b"s"
        yield f"weights {size!r} {stride!r}", PROTO + weights + b"."


def _strided(size: bytes, stride: bytes) -> bytes:
    """Push a tensor of this size and stride over a storage of four numbers in the pickle itself."""
    typed = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True
    )
    (content,) = typed.__reduce__()[1]
    storage = _load_from_bytes(content)
    return (
        dotted("torch._utils", "_rebuild_tensor_v2")
        + (b"(" + storage + b"K\x00" + size + stride + b"\x89" + b"ccollections\nOrderedDict\n)Rt")
        + b"R"
    )


def benign() -> bytes:
    """Return a pickle that is read, so that all that reading imports is imported."""
    return pickle.dumps({"w": np.zeros(3, "f4"), "t": torch.zeros(2)}, 4)
