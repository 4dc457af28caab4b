"""What reading a pickle costs is set by its size: the tricks by which few bytes claim much."""

import io
import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mask2former.checkpoints.storage.pickle_limits import UnsafePickleError
from mask2former.checkpoints.storage.safe_pickle import load_pickle
from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.errors import UserError

SECONDS = 5  # of a busy machine; without the bounds, hours or more memory than there is


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def binary(value):
    return b"B" + struct.pack("<I", len(value)) + value


def put(i):
    return b"r" + struct.pack("<I", i)


def get(i):
    return b"j" + struct.pack("<I", i)


def doubled(depth=60):
    """Tuples that hold the one before twice: 2 ** depth ways down."""
    return b"K\x01" + b"".join(put(i) + get(i) + b"\x86" for i in range(depth))


def storage_of(numbers):
    typed = torch.storage.TypedStorage(
        wrap_storage=numbers.untyped_storage(), dtype=numbers.dtype, _internal=True
    )
    return typed.__reduce__()[1][0]


LOAD = name("torch.storage", "_load_from_bytes")
TENSOR = name("torch._utils", "_rebuild_tensor_v2")


def strided(size=2**40, stride=0):
    """Push a tensor of a size over four numbers."""
    numbers = b"\x8a\x08" + struct.pack("<q", size), b"K" + bytes([stride])
    inner = LOAD + binary(storage_of(torch.zeros(4))) + b"\x85R"
    return TENSOR + b"(" + inner + b"K\x00" + numbers[0] + b"\x85" + numbers[1] + b"\x85\x89)tR"


def repeated(setup, one, count):
    """Set up, then a list of the same again and again."""
    return setup + b"](" + one * count + b"e"


def nested_storages(depth):
    """A storage inside of a storage ..., each of which reads the one inside twice."""
    sound = storage_of(torch.zeros(4))  # begins with the pickle of a number
    data = sound
    for _ in range(depth):
        twice = LOAD + put(0) + binary(data) + put(1) + b"\x85R0" + get(0) + get(1) + b"\x85R0"
        data = sound[:2] + twice + sound[2:]
    return LOAD + binary(data) + b"\x85R"


ENCODE = (
    name("_codecs", "encode")
    + (put(1) + text("a" * 200_000) + put(2) + text("latin1") + put(3) + b"00")
    + (name("builtins", "list") + put(4) + b"](" + get(2) + get(3) + b"e" + put(5))
)
ARRAY = name("numpy._core.multiarray", "_reconstruct")
CASES = {
    **{
        f"{kind} of a tensor": name(module, kind) + strided() + b"\x85R"
        for module, kind in (
            ("collections", "OrderedDict"),
            *(("builtins", kind) for kind in ("list", "tuple", "set", "frozenset", "dict")),
            ("torch", "Size"),
        )
    },
    **{
        f"{kind} of a pair that is a tensor": name(module, kind) + b"](" + strided() + b"e\x85R"
        for module, kind in (("collections", "OrderedDict"), ("builtins", "dict"))
    },
    "settings updated by a tensor": name("argparse", "Namespace") + b")\x81" + strided() + b"b",
    "a tensor set by item": strided() + b"NK\x01s",
    "a tensor set by items": strided() + b"(NK\x01u",
    "a tensor as a set": strided() + b"(K\x01\x90",
    "a tensor appended to": strided() + b"K\x01a",
    "many numbers over one": strided(),
    "a key": b"}" + doubled() + b"Ns",
    "keys": b"}(" + doubled() + b"Nu",
    "keys of old": b"(" + doubled() + b"Nd",
    "a set": b"\x8f(" + doubled() + b"\x90",
    "a frozen set": b"(" + doubled() + b"\x91",
    "a set by call": name("builtins", "set") + b"](" + doubled() + b"e\x85R",
    "a dict by call": name("builtins", "dict") + b"](" + doubled() + b"N\x86e\x85R",
    "a reference": doubled() + b"Q",
    "a device": name("torch", "device") + doubled() + b"\x85R",
    "a type of arrays": name("numpy", "dtype") + doubled() + b"\x85R",
    "a byte order": name("numpy", "dtype") + text("f4") + b"\x85R(K\x03" + doubled() + b"tb",
    "an encoding": name("_codecs", "encode") + text("a") + doubled() + b"\x86R",
    "a large number as keys": repeated(
        b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + put(1) + b"0",
        b"}" + get(1) + b"Ns",
        50_000,
    ),
    "a list copied": repeated(
        name("builtins", "list") + put(1) + b"](" + b"N" * 100_000 + b"e" + put(2),
        get(1) + get(2) + b"\x85R",
        10_000,
    ),
    "a text encoded": repeated(ENCODE, get(1) + get(4) + get(5) + b"\x85RR", 20_000),
    "a number parsed": repeated(
        name("builtins", "complex") + put(1) + text("9" * 100_000) + put(2),
        get(1) + get(2) + b"\x85R",
        60_000,
    ),
    "storages in storages": nested_storages(30),
    "strings of no length": (
        ARRAY + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R(K\x01"
        + b"\x8a\x08" + struct.pack("<q", 2**40) + b"K\x00\x86"
        + name("numpy", "dtype") + text("S1") + b"\x89\x88\x87R\x89C\x00tb"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_few_bytes_cost_little(case):
    tracemalloc.start()
    start = time.process_time()
    try:
        load_pickle(io.BytesIO(b"\x80\x04" + CASES[case] + b"."))
    except UserError as error:
        assert len(str(error)) < 200
    assert time.process_time() - start < SECONDS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("OrderedDict of a tensor", "many copies of what it has once"),
        ("a tensor set by items", "many copies|items in a Tensor"),
        ("a key", "a key that is long or nested"),
        ("a list copied", "many copies of what it has once"),
        ("a text encoded", "many copies of what it has once"),
        ("storages in storages", "a storage inside of a storage"),
        ("a number parsed", "a complex number of what is no number"),
    ],
)
def test_says_why(case, message):
    with pytest.raises(UnsafePickleError, match=message):
        load_pickle(io.BytesIO(b"\x80\x04" + CASES[case] + b"."))


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (name("collections", "OrderedDict") + strided(8) + b"\x85R", "a OrderedDict of a Tensor"),
        (name("builtins", "dict") + b"](" + strided(8) + b"e\x85R", "a dict of what is no pair"),
        (name("argparse", "Namespace") + b")\x81" + strided(8) + b"b", "settings of a Tensor"),
        (strided(8) + b"NK\x01s", "items in a Tensor"),
        (strided(8) + b"(NK\x01u", "items in a Tensor"),
        (strided(8) + b"(K\x01\x90", "items in a Tensor"),
        (strided(8) + b"K\x01a", "items in a Tensor"),
        (strided(8) + b"(K\x01e", "items in a Tensor"),
    ],
)
def test_small_tensors_are_no_containers_either(pickled, message):
    with pytest.raises(UnsafePickleError, match=message):
        load_pickle(io.BytesIO(b"\x80\x04" + pickled + b"."))


def test_a_small_file_that_claims_much_is_refused_soon(tmp_path):
    path = tmp_path / "weights.pth"
    content = OrderedDict(w=torch.zeros(1).expand(2**31))
    torch.save({"model": content}, path)
    start = time.process_time()
    with pytest.raises(UnsafePickleError, match="many copies of what it has once"):
        load_weights(path)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("legacy", [True, False])
def test_weights_that_share_and_expand_are_read(tmp_path, legacy):
    """Tied weights, views of one storage, and a buffer that is a number expanded."""
    flat = torch.arange(400_000.0)
    weights = {f"w{i}": flat[i * 1000 : (i + 1) * 1000] for i in range(400)}
    weights |= {"tied": flat, "again": flat.view(400, 1000).t(), "one": torch.ones(1).expand(5000)}
    torch.save(weights, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    loaded, _ = load_weights(tmp_path / "a.pth")
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_many_storages_may_not_claim_more_than_the_file_together(tmp_path):
    path = tmp_path / "a.pth"
    weights = {str(i): torch.zeros(1000, dtype=torch.uint8) for i in range(4)}
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"M\xe8\x03", b"M\xd0\x07"))  # 1000 -> 2000
    with pytest.raises(UserError, match="2000 numbers does not fit"):
        load_weights(path)


def test_a_length_beyond_the_end_of_a_file_takes_no_memory(tmp_path):
    path = tmp_path / "a.pkl"
    for code in (b"\x8e", b"\x95", b"\x96", b"\x8d"):
        path.write_bytes(b"\x80\x05" + code + struct.pack("<Q", 1 << 31) + b"few.")
        with open(path, "rb") as file:
            tracemalloc.start()
            with pytest.raises(UserError, match="damaged pickle"):
                load_pickle(file)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 1 << 20


def test_dicts_with_keys_of_all_usual_kinds_are_read():
    value = {1: 0, "a": 1, (1, "b"): 2, None: 3, 2.5: 4, frozenset([1]): 5, 2**70: 6}
    for protocol in range(6):
        assert load_pickle(io.BytesIO(pickle.dumps([value, {(1, 2)}], protocol))) == [
            value,
            {(1, 2)},
        ]


def test_arrays_of_strings_keep_two_axes():
    array = np.array([["a", "b"], ["c", "d"]])
    assert load_pickle(io.BytesIO(pickle.dumps([array, array[0], array[:0]]))) == [
        [["a", "b"], ["c", "d"]],
        ["a", "b"],
        [],
    ]
