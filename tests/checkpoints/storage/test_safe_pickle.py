"""Reading of pickles without running them: agreement with pickle.load, damage."""

import argparse
import collections
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg

from mask2former.checkpoints.storage import safe_pickle
from mask2former.checkpoints.storage.pickle_limits import UnsafePickleError
from mask2former.checkpoints.storage.pickle_standins import Array, Dtype
from mask2former.checkpoints.storage.safe_pickle import load_pickle
from tests.checkpoints.storage.pickles import reload

# Agreement with pickle.load


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_and_arrays_come_as_they_were_written(protocol):
    value = collections.OrderedDict(
        numbers=[1, 2.5, True, None, 2**70, 1 + 2j],
        nested={"a": ({1, 2}, frozenset([3])), 5: "text é"},
        float32=np.arange(6, dtype="f4").reshape(2, 3),
        columns=np.asfortranarray(np.arange(6, dtype="i8").reshape(2, 3)),
        swapped=np.arange(3, dtype=">f8"),
        empty=np.zeros((0, 4), "f4"),
        flags=np.array([True, False]),
        zero_dim=np.array(7, "i4"),
    )
    result = reload(value, protocol)
    assert type(result) is collections.OrderedDict and list(result) == list(value)
    assert result["numbers"] == value["numbers"] and result["nested"] == value["nested"]
    for name in ("float32", "columns", "swapped", "empty", "flags", "zero_dim"):
        expected = torch.from_numpy(value[name].astype(value[name].dtype.newbyteorder("=")))
        torch.testing.assert_close(result[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize("protocol", [2, 4])
def test_scalars_become_numbers_and_arrays_without_numbers_lists(protocol):
    result = reload(
        [np.float32(0.5), np.int64(3), np.array(["a", "bc"]), np.array([None])], protocol
    )
    assert result == [0.5, 3, ["a", "bc"], [None]]
    assert [type(value) for value in result[:2]] == [float, int]


def test_tensors_in_a_plain_pickle():
    value = {"weight": torch.nn.Parameter(torch.randn(3, 2)), "turned": torch.randn(2, 3).t()}
    result = reload(value)
    for name in value:
        torch.testing.assert_close(result[name], value[name].data, rtol=0, atol=0)
        assert not result[name].requires_grad


@pytest.mark.parametrize("protocol", [2, 4])
def test_large_tensors_and_arrays_in_a_plain_pickle(protocol):
    torch.manual_seed(0)
    value = {str(i): torch.randn(200, 200) for i in range(4)}
    arrays = {name: tensor.numpy() for name, tensor in value.items()}
    result = reload([value, arrays, ["more"], value], protocol)
    for read in result[:2]:
        assert all(torch.equal(read[name], value[name]) for name in value)
    assert result[2] == ["more"] and result[3] is result[0]


def test_tensors_in_a_plain_pickle_need_no_second_copy():
    """The unpickler keeps the bytes that it read up to the end, so the tensors share them."""
    numbers = torch.arange(1000.0)
    storage = torch.storage.TypedStorage(
        wrap_storage=numbers.untyped_storage(), dtype=numbers.dtype, _internal=True
    )
    _, (data,) = storage.__reduce__()
    tensor = safe_pickle._Unpickler(io.BytesIO(), None)._load_from_bytes(data)
    assert torch.equal(tensor, numbers)
    start = np.frombuffer(data, "u1").ctypes.data
    assert start < tensor.data_ptr() < start + len(data)


def test_strings_and_arrays_of_python_2():
    """Written by hand, as only Python 2 writes such strings."""
    data = struct.pack("<2f", 1.5, -2.0)
    pickled = (
        b"\x80\x02}(U\x06conv_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + data + b"tbU\x0a__author__U\x03\xe9lau."
    )
    result = load_pickle(io.BytesIO(pickled))
    assert result["__author__"] == "éla"
    assert result["conv_w"].tolist() == [1.5, -2.0]


def test_settings_come_as_dicts():
    cfg = get_cfg()
    result = reload([argparse.Namespace(lr=0.1, steps=[1, 2]), cfg])
    assert result[0] == {"lr": 0.1, "steps": [1, 2]} and type(result[0]) is dict
    assert result[1]["MODEL"]["MASK_ON"] is cfg.MODEL.MASK_ON


def test_shared_and_self_referring_containers_stay_so():
    shared = [1]
    value = {"a": shared, "b": shared}
    value["self"] = value
    result = reload(value)
    assert result["a"] is result["b"] and result["self"] is result


@pytest.mark.parametrize("kind", [list, tuple, lambda pair: dict(enumerate(pair))])
def test_containers_that_share_much_are_refused_quickly(kind):
    """Nobody could compare, copy or print them: 2 ** 60 paths. A few thousand are no harm."""
    value = ["text"]
    for _ in range(12):
        value = kind([value, value])
    assert len(reload(value)) == 2
    for _ in range(48):
        value = kind([value, value])
    with pytest.raises(UnsafePickleError, match="hold one another"):
        reload(value)


def test_many_containers_that_hold_themselves_are_refused():
    value = [[] for _ in range(20)]
    for part in value:
        part += value
    with pytest.raises(UnsafePickleError, match="hold one another"):
        reload(value)


def test_a_long_list_is_none_that_shares_much():
    assert len(reload(["a" * 100] * 10 + list(range(2_000_000)))) == 2_000_010


# Damage


@pytest.mark.parametrize("kept", [0, 1, 30, 200, -1])
def test_a_truncated_pickle_is_damaged(kept):
    data = pickle.dumps({"a": np.arange(100.0), "b": {"c": [1, 2, 3]}})
    with pytest.raises(ValueError, match="damaged pickle"):
        load_pickle(io.BytesIO(data[:kept]))


@pytest.mark.parametrize(
    "data",
    [
        b"B\xff\xff\xff\xff.",  # BINBYTES
        b"\x8e" + b"\xff" * 7 + b"\x7f.",  # BINBYTES8
        b"\x96" + b"\xff" * 7 + b"\x7f.",  # BYTEARRAY8
        b"\x96" + struct.pack("<Q", 1 << 28) + b"few.",
    ],
)
def test_damage_cannot_ask_for_endless_memory(data):
    tracemalloc.start()
    with pytest.raises(ValueError, match="damaged pickle"):
        load_pickle(io.BytesIO(b"\x80\x05" + data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24


def test_a_high_index_in_the_memo_takes_no_memory():
    """The memo is a dict; pickle's compiled Unpickler would make a table of 16 GiB."""
    tracemalloc.start()
    assert load_pickle(io.BytesIO(b"\x80\x04]r\xff\xff\xff\x7f.")) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24


@pytest.mark.parametrize("protocol", [2, 5])
def test_bytearrays_come_as_text_like_bytes(protocol):
    if protocol == 5:
        assert reload([bytearray(b"ab")], protocol) == ["ab"]
    else:  # by the call of bytearray, which is refused
        with pytest.raises(UnsafePickleError, match="bytearray"):
            reload([bytearray(b"ab")], protocol)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_reading_takes_little_more_memory_than_the_file(tmp_path, kind, protocol):
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.standard_normal((300, 200), "f4") for i in range(50)}
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({k: kind(v) for k, v in weights.items()}, protocol))
    with open(path, "rb") as file:
        tracemalloc.start()
        loaded = load_pickle(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert all(torch.equal(loaded[k], torch.from_numpy(v)) for k, v in weights.items())
    assert peak < 1.15 * path.stat().st_size


def test_random_damage_gives_value_errors_only():
    data = pickle.dumps({"a": np.arange(20.0), "b": torch.ones(3), "c": [1, "x", None]})
    rng = np.random.RandomState(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(data)
        for position in rng.randint(0, len(data), 3):
            broken[position] = rng.randint(256)
        try:
            load_pickle(io.BytesIO(bytes(broken)))
        except ValueError:
            refused += 1
    assert refused > 100


def test_an_array_of_another_size_than_its_data_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\) with 2 numbers"):
        Array().fill(b"12345678", Dtype("f4"), (3,), "C")


def test_a_tensor_may_not_reach_beyond_its_storage():
    content = io.BytesIO()
    torch.save(torch.arange(4.0), content)
    archive = zipfile.ZipFile(content)
    pickled = archive.read("archive/data.pkl").replace(b"K\x04\x85", b"K\x05\x85")  # the size
    with pytest.raises(ValueError, match="out of bounds"):
        load_pickle(io.BytesIO(pickled), lambda reference: torch.zeros(4))


def test_characters_that_there_are_not_are_refused():
    """They would be a SystemError of Python's."""
    sound = pickle.dumps(np.array(["ab", "c"]))
    assert load_pickle(io.BytesIO(sound)) == ["ab", "c"]
    damaged = sound.replace("ab".encode("utf-32-le"), b"a\0\0\0b\0\0\xff")
    assert damaged != sound
    with pytest.raises(ValueError, match="characters that there are not"):
        load_pickle(io.BytesIO(damaged))
