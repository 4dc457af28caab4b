"""Files of weights: every format there and back, wrong files and their messages."""

import os
import pickle
import resource
import signal
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

from mask2former.checkpoints.storage.pickle_standins import UnsafePickleError
from mask2former.checkpoints.storage.weights_io import (
    load_weights,
    read_checkpoint,
    save_safetensors,
    save_weights,
)


def weights():
    torch.manual_seed(0)
    return OrderedDict(
        matrix=torch.randn(3, 4),
        turned=torch.randn(4, 3).t(),
        half=torch.randn(5).to(torch.float16),
        count=torch.tensor(7),
        flags=torch.tensor([True, False]),
        empty=torch.zeros(0, 2),
    )


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        torch.testing.assert_close(actual[name], tensor, rtol=0, atol=0)


# There and back


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_what_is_saved_is_loaded(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_weights(weights(), path, author="me", partial=True)
    loaded, rest = load_weights(path)
    assert_same(loaded, weights())
    assert rest["__author__"] == "me" and rest["matching_heuristics"]
    assert os.listdir(tmp_path) == [path.name]


def test_files_of_ours_are_read_by_the_libraries_that_own_the_formats(tmp_path):
    for suffix in (".pth", ".pkl", ".safetensors"):
        save_weights(weights(), tmp_path / f"weights{suffix}")
    assert_same(torch.load(tmp_path / "weights.pth", weights_only=True)["model"], weights())
    assert_same(safetensors.torch.load_file(tmp_path / "weights.safetensors"), weights())
    with open(tmp_path / "weights.pkl", "rb") as file:  # as detectron2 reads its model zoo
        zoo = pickle.load(file, encoding="latin1")
    assert "__author__" in zoo
    assert_same({name: torch.as_tensor(array) for name, array in zoo["model"].items()}, weights())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("entry", ["model", "state_dict", "model_state", None])
def test_files_of_torch_wherever_they_keep_the_weights(legacy, entry, tmp_path):
    path = tmp_path / "checkpoint.bin"  # the content tells the format, not the suffix
    content = {entry: weights(), "epoch": 3} if entry else weights()
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    loaded, rest = load_weights(path)
    assert_same(loaded, weights())
    assert rest == ({"epoch": 3} if entry else {})


def test_tensors_that_share_memory_stay_one_in_memory_and_part_in_safetensors(tmp_path):
    whole = torch.arange(6.0)
    shared = {"whole": whole, "part": whole[2:4]}
    for legacy in (False, True):
        torch.save(shared, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        loaded, _ = load_weights(tmp_path / "a.pth")
        assert_same(loaded, shared)
        loaded["whole"][2] = 9
        assert loaded["part"][0] == 9
    save_safetensors(shared, tmp_path / "a.safetensors")
    assert_same(load_weights(tmp_path / "a.safetensors")[0], shared)


def test_writing_to_loaded_weights_leaves_the_file_alone(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(weights(), path)
    loaded, _ = load_weights(path)
    loaded["matrix"].zero_()
    assert_same(load_weights(path)[0], weights())


def test_a_state_dict_keeps_its_versions_and_loses_what_is_no_tensor(tmp_path):
    state = torch.nn.BatchNorm2d(2).state_dict()
    state["note"] = "text"
    torch.save({"model": state}, tmp_path / "a.pth")
    loaded, _ = load_weights(tmp_path / "a.pth")
    assert loaded._metadata[""]["version"] == 2
    assert "note" not in loaded and "running_mean" in loaded


# Wrong files


WRONG = {
    "empty.pth": (b"", "the file is empty"),
    "page.pkl": (b"\n<!DOCTYPE html><html>not found</html>", "web page"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
    "photo.pth": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "neither a pickle nor"),
    "text.pkl": (b"hello", "neither a pickle nor"),
    "short.safetensors": (b"\x10\x27\x00\x00\x00\x00\x00\x00{", r"truncated or no \.safetensors"),
    "zip.pth": (b"PK\x03\x04" + b"\0" * 100, "truncated or damaged archive"),
    "list.pkl": (pickle.dumps([1, 2]), "holds no weights.*holds a list"),
    "array.pkl": (pickle.dumps(np.zeros(3)), "holds no weights.*holds a Tensor"),
    "tar.pth": (b"pickle" + b"\0" * 506, "neither a pickle nor"),  # of torch before 0.1.10
    "other.pkl": (pickle.dumps({"images": 1}), "holds no weights.*keys images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_checkpoint_is_named_with_the_reason(name, tmp_path):
    content, reason = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){name}.*{reason}"):
        load_weights(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pkl", "safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(kind, share, tmp_path):
    path = tmp_path / f"a.{kind}"
    big = {"a": torch.randn(100, 100), "b": torch.randn(50)}
    if kind == "pkl":
        path.write_bytes(pickle.dumps({n: t.numpy() for n, t in big.items()}))
    elif kind == "safetensors":
        save_safetensors(big, path)
    else:
        torch.save(big, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=rf"a\.{kind} cannot be read as a checkpoint"):
        load_weights(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_of_torch_is_refused(legacy, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/HACKED",)

    path = tmp_path / "hostile.pth"
    content = {"model": weights(), "x": Hostile()}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafePickleError, match=r"hostile\.pth asks for \w+\.system"):
        read_checkpoint(path)
    assert os.listdir(tmp_path) == ["hostile.pth"]


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(torch.arange(1000, dtype=torch.uint8), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes().replace(b"M\xe8\x03", b"M\xff\xff")  # 1000 -> 65535
    path.write_bytes(data)
    with pytest.raises(ValueError, match="65535 numbers does not fit"):
        load_weights(path)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    """A few bytes may unpack to more than there is memory for."""
    torch.save({"a": torch.ones(3)}, tmp_path / "stored.pth")
    with (
        zipfile.ZipFile(tmp_path / "stored.pth") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in stored.namelist():
            bomb.writestr(name, stored.read(name))
    with pytest.raises(ValueError, match=r"bomb\.pth cannot be read .* it is compressed"):
        load_weights(tmp_path / "bomb.pth")


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)])  # flags, then the method
def test_an_archive_that_cannot_be_unpacked_is_refused(offset, value, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(3)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.pth cannot be read .* (encrypted|compressed)"):
        load_weights(path)


@pytest.mark.parametrize("keys", [7, ["9"], [["0"]]])
def test_a_legacy_file_whose_list_of_storages_is_wrong_is_refused(keys, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(torch.ones(3), path, _use_new_zipfile_serialization=False)
    parts = path.read_bytes().split(b".\x80\x02")  # where one pickle ends and the next begins
    wrong = pickle.dumps(keys, 2)[2:-1]
    path.write_bytes(b".\x80\x02".join([*parts[:-1], wrong]) + b"." + b"\0" * 20)
    with pytest.raises(ValueError, match="list of storages does not fit"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_a_file_that_cannot_grow_is_an_error_of_the_system(suffix, tmp_path):
    """As on a full disk; torch and safetensors have errors of their own for it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            save_weights({"a": torch.ones(100_000)}, tmp_path / f"a{suffix}")
        except OSError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0 and not os.listdir(tmp_path)


def test_missing_files_folders_and_suffixes(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_weights(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_weights(tmp_path)
    with pytest.raises(ValueError, match=r"suffix \.safetensors, \.pth or \.pkl"):
        save_weights({"a": torch.ones(1)}, tmp_path / "a.txt")


def test_bfloat16_becomes_float32_where_numpy_has_none(tmp_path):
    tensor = torch.randn(3).to(torch.bfloat16)
    save_weights({"a": tensor}, tmp_path / "a.pkl")
    loaded, _ = load_weights(tmp_path / "a.pkl")
    assert_same(loaded, {"a": tensor.float()})


def test_a_file_that_vanishes_while_it_is_read_is_an_os_error(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_weights({"a": torch.ones(3)}, path)

    def vanished(*args, **kwargs):
        raise RuntimeError("unable to open file in read-only mode: No such file or directory (2)")

    monkeypatch.setattr("safetensors.safe_open", vanished)
    with pytest.raises(OSError, match=r"a\.safetensors: unable to open file"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("longer", "message"),
    [(2**31, "claims to be longer than the file"), (0, "goes on behind its end")],
)
def test_members_that_the_file_cannot_hold_are_refused(tmp_path, longer, message):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(3)}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"/byteorder") - len("model")  # in the central directory
    length = len(content) + longer  # too long for where it begins
    content[entry - 26 : entry - 18] = struct.pack("<II", length, length)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged archive .a member {message}"):
        load_weights(path)
