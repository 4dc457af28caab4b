"""Pickles that would call or change something are refused, and named."""

import builtins
import collections
import copyreg
import functools
import io
import os
import pickle

import numpy as np
import pytest
import torch

from mask2former.checkpoints.storage.pickle_limits import UnsafePickleError
from mask2former.checkpoints.storage.safe_pickle import load_pickle
from tests.checkpoints.storage.pickles import Calls, reload

HOSTILE = {
    "system": Calls(os.system, "touch HACKED"),
    "eval": Calls(builtins.eval, "open('HACKED', 'w')"),
    "getattr": Calls(getattr, "", "join"),
    "partial": functools.partial(print, 1),
    "torch.load": Calls(torch.load, "HACKED"),
    "numpy.load": Calls(np.load, "HACKED"),
    "bytearray": Calls(bytearray, 10**15),
    "range": range(10**12),
    "class": Calls,
    "Counter": collections.Counter("a"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_is_no_data_is_refused_and_named(name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {
        "system": r"system",
        "class": r"Calls",
        "partial": r"partial|_reconstructor",
        "torch.load": r"torch\.serialization\.load",
        "numpy.load": r"numpy.*load",
    }.get(name, name)
    with pytest.raises(UnsafePickleError, match=asked):
        reload({"model": HOSTILE[name]}, protocol)
    assert not os.listdir(tmp_path)


GLOBAL = {"dict": b"cbuiltins\ndict\n", "float": b"ctorch\nfloat32\n"}


@pytest.mark.parametrize(
    ("pickled", "asked"),
    [
        (b"(ios\nsystem\n.", "os.system"),  # INST
        (b"(cos\nsystem\nX\x01\x00\x00\x00xo.", "os.system"),  # OBJ
        (b"cos\nsystem\n)\x81.", "os.system"),  # NEWOBJ
        (b"cos\nsystem\n)}\x92.", "os.system"),  # NEWOBJ_EX
        (b"\x82\x01.", "number 1 of copyreg's extensions"),  # EXT1
        (b"\x83\x01\x02.", "number 513 of copyreg's extensions"),  # EXT2
        (b"\x84\x01\x00\x00\x00.", "number 1 of copyreg's extensions"),  # EXT4
        (GLOBAL["float"] + b"}b.", "attributes of a dtype"),  # BUILD
        (GLOBAL["dict"] + b"}b.", "attributes of a partial"),
        (b"}}b.", "attributes of a dict"),
    ],
)
def test_every_way_of_a_pickle_to_call_or_change_things_is_refused(pickled, asked):
    copyreg.add_extension("os", "system", 1)
    copyreg._extension_cache[1] = os.system
    try:
        with pytest.raises(UnsafePickleError, match=asked):
            load_pickle(io.BytesIO(b"\x80\x04" + pickled))
    finally:
        copyreg.remove_extension("os", "system", 1)
        copyreg._extension_cache.pop(1, None)


def test_attributes_of_tensors_are_not_set():
    tensor = pickle.dumps(torch.ones(2), 4)[:-1]
    with pytest.raises(UnsafePickleError, match="attributes of a Tensor"):
        load_pickle(io.BytesIO(tensor + b"}X\x01\x00\x00\x00aK\x01sb."))


def test_a_dict_keeps_the_versions_of_modules_and_no_other_attribute():
    state = collections.OrderedDict(a=1)
    state._metadata, state.keys = {"": {"version": 2}}, "not a method"
    result = reload(state)
    assert vars(result) == {"_metadata": {"": {"version": 2}}} and list(result.items())


def test_containers_are_made_of_containers_only():
    """A tensor of stride 0 may claim more numbers than any list could hold."""

    def expanded(_):
        return torch.ones(1)

    pickled = pickle.dumps(Calls(list, torch.ones(1).expand(10)), 4)
    with pytest.raises(UnsafePickleError, match="a list of a Tensor"):
        load_pickle(io.BytesIO(pickled), expanded)


def test_names_with_dots_reach_nothing_inside_what_is_allowed():
    pickled = b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93)R."
    with pytest.raises(UnsafePickleError, match=r"collections\.OrderedDict\.fromkeys"):
        load_pickle(io.BytesIO(pickled))


def test_a_storage_inside_is_read_under_the_same_rules():
    inner = pickle.dumps(Calls(os.system, "true"))
    hostile = Calls(torch.storage._load_from_bytes, inner)
    with pytest.raises(UnsafePickleError, match="system"):
        reload(hostile)


def test_types_of_arrays_that_could_hold_pointers_are_refused():
    array = np.zeros(2, dtype=[("a", "f4"), ("b", object)])
    with pytest.raises(UnsafePickleError, match="an array of type 'V"):
        reload(array)


@pytest.mark.parametrize(
    "name",
    ["numpy\ndtype", "argparse\nNamespace", "numpy.core.multiarray\n_reconstruct", "torch\nSize"],
)
def test_a_pickle_cannot_change_how_the_next_one_is_read(name):
    """BUILD with (None, {...}) sets attributes of what is on the stack."""
    change = b"(N}X\x0c\x00\x00\x00__defaults__)stb."
    with pytest.raises(UnsafePickleError, match="attributes of a"):
        load_pickle(io.BytesIO(b"\x80\x02c" + name.encode() + b"\n" + change))
