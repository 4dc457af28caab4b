"""Reading and writing files of weights: torch's two formats, plain pickles and safetensors.

Reading never runs code from a file, and maps it into memory where the format allows that, so that
a large checkpoint needs no second copy. The content tells the format, not the suffix.
"""

import json
import mmap
import os
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from detectron2.utils.file_io import PathManager

from ...classes import Classes
from ...errors import UserError
from ...formats.atomic import atomic_path
from . import safe_pickle
from .pickle_limits import UnsafePickleError
from .torch_legacy import read_legacy

_ENCRYPTED = 0x1  # of the flags of a zip's member
WEIGHT_ENTRIES = ("model", "state_dict", "model_state", "blobs")  # where others keep the weights


def load_weights(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the weights of a checkpoint.

    Args:
        path: a file, or what detectron2's PathManager knows (``detectron2://``, ``https://``).

    Returns:
        the weights by name, as they are called in the file, on the CPU and perhaps in memory that
        is mapped from it (writing to them does not change it); and the rest of the checkpoint, for
        instance ``iteration`` or ``__author__``.

    Raises:
        FileNotFoundError, UnsafePickleError, UserError: as `read_checkpoint`.
        UserError: the file holds no weights.
    """
    checkpoint = read_checkpoint(path)
    return checkpoint.pop("model"), checkpoint


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint, brought to detectron2's form: the weights under the key "model".

    Args:
        path: as for `load_weights`.

    Raises:
        FileNotFoundError: there is no such file, or it could not be downloaded.
        UnsafePickleError: it asks for more than arrays, tensors and plain containers.
        UserError: it is damaged, of another format, or holds no weights.
    """
    local = local_path(path)
    try:
        content = _read(local)
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{path} asks for {error}, which is no array, tensor or plain container. To build it "
            "could run code from the file, so the file is refused. Save the weights alone, as a "
            "dict of tensors or as .safetensors, where it was made."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} cannot be read as a checkpoint: {error}.") from error
    return _in_detectron2_form(content, str(path))


def save_safetensors(
    weights: Mapping[str, torch.Tensor],
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights as a .safetensors file atomically.

    Args:
        weights: tensors by name; those that share memory are written separately.
        path: the file to write.
        metadata: strings to keep in the file's header.
    """
    separate, seen = {}, set()
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu()
        memory = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if memory in seen else tensor.contiguous()
        seen.add(memory)
    with atomic_path(path) as temporary, _as_os_errors(path):
        safetensors.torch.save_file(separate, temporary, {"format": "pt", **(metadata or {})})


def save_torch(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a checkpoint as torch does, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_path(path) as temporary, _as_os_errors(path):
        torch.save(content, temporary)


@contextmanager
def _as_os_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise an OSError where torch or safetensors cannot write, of which each has its own error."""
    try:
        yield
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise OSError(f"Cannot write {path}, perhaps for lack of room: {error}") from error


def save_weights(
    weights: Mapping[str, torch.Tensor],
    path: str | os.PathLike,
    author: str = "",
    partial: bool = False,
    classes: Classes | None = None,
) -> None:
    """Write weights in the format that the suffix asks for, atomically.

    Args:
        weights: tensors by name.
        path: ``.safetensors``; ``.pth`` as torch writes it; or ``.pkl``, a pickle of arrays in the
            form of detectron2's model zoo.
        author: who made them, kept in the file.
        partial: they are a part of a model, whose names lack its prefix; detectron2 then looks
            for the part by the ends of the names.
        classes: of the model, kept in the file.

    Raises:
        UserError: another suffix.
    """
    path = Path(path)
    extra: dict[str, Any] = {"__author__": author} if author else {}
    extra |= {"matching_heuristics": True} if partial else {}
    entry = {} if classes is None else {"classes": classes.to_plain()}
    if path.suffix == ".safetensors":
        texts = {key: str(value) for key, value in extra.items()}
        texts |= {key: json.dumps(value) for key, value in entry.items()}
        save_safetensors(weights, path, texts)
        return
    extra |= entry
    if path.suffix not in (".pth", ".pkl"):
        raise UserError(f"{path}: expected the suffix .safetensors, .pth or .pkl.")
    tensors = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    if path.suffix == ".pth":
        save_torch({"model": {n: t.clone() for n, t in tensors.items()}, **extra}, path)
        return
    # detectron2 takes a pickle without an author for one of Caffe2.
    data = {"model": {n: _to_numpy(t) for n, t in tensors.items()}, "__author__": "", **extra}
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(data))


def local_path(path: str | os.PathLike) -> Path:
    """Return the path of a local copy of ``path``, downloaded where it is an address; raise a
    FileNotFoundError where it is no file or cannot be had."""
    path = os.fspath(path)
    try:
        local = Path(PathManager.get_local_path(path))
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"Cannot get the checkpoint {path}: {error}. Download it by other means and give the "
            "path of the file instead."
        ) from error
    if not local.is_file():
        what = "is a folder" if local.is_dir() else "does not exist"
        raise FileNotFoundError(f"Checkpoint {path}: {local} {what}; a file was expected.")
    return local


def _read(path: Path) -> Any:
    with open(path, "rb") as file:
        start = file.read(64)
        file.seek(0)
        if start.startswith(b"PK\x03\x04"):
            return _read_torch_zip(path)
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < os.path.getsize(path):
            return _read_safetensors(path)
        _refuse_other_formats(start, path.suffix)
        content = safe_pickle.load_pickle(file)
        if type(content) is int and content == safe_pickle.LEGACY_MAGIC:
            return read_legacy(file, os.path.getsize(path))
        return content


def _refuse_other_formats(start: bytes, suffix: str) -> None:
    if not start:
        raise UserError("the file is empty")
    if start.lstrip()[:1] == b"<":
        raise UserError("it is a web page, so the download went wrong")
    if start.startswith(b"version https://git-lfs"):
        raise UserError("it is a pointer of Git LFS, not the file itself; run 'git lfs pull'")
    if suffix == ".safetensors":
        raise UserError("it is truncated or no .safetensors file")
    if start[:1] not in b"\x80(c}]":  # what a pickle can start with
        raise UserError("it is neither a pickle nor a torch or .safetensors file")


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return {"model": weights, **(file.metadata() or {})}
    except safetensors.SafetensorError as error:
        raise UserError(f"truncated or damaged .safetensors file ({error})") from error
    except RuntimeError as error:  # of torch, which maps the file, where it has vanished
        raise OSError(f"Cannot read {path}: {error}") from error


def _read_torch_zip(path: Path) -> Any:
    """Read the format of torch.save since 1.6; the tensors share one map of the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpickle_archive(archive, path)
    except EOFError as error:
        raise UserError("truncated or damaged archive (a member goes on behind its end)") from error
    # The others are of methods, versions and flags that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"truncated or damaged archive ({error})") from error


def _unpickle_archive(archive: zipfile.ZipFile, path: Path) -> Any:
    members = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
    if "data.pkl" not in members:
        raise UserError("it is a zip archive, but not one of torch.save")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        raise UserError("it is compressed, which torch.save does not do; unpack it first")
    if any(member.flag_bits & _ENCRYPTED for member in members.values()):
        raise UserError("it is encrypted, which torch.save does not do; unpack it first")
    length = path.stat().st_size
    if any(max(member.file_size, member.compress_size) > length for member in members.values()):
        raise UserError("truncated or damaged archive (a member claims to be longer than the file)")
    if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
        raise UserError("it was written on a big-endian machine")
    with open(path, "rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    storages: dict[str, torch.Tensor] = {}

    def storage(reference: tuple) -> torch.Tensor:
        _, dtype, key, _, count, *_ = reference
        if key not in storages:
            member = members[f"data/{key}"]
            if not 0 <= count * dtype.itemsize <= member.file_size:
                raise UserError(f"storage {key} is shorter than {count} numbers")
            offset = _data_offset(view, member.header_offset)
            storages[key] = safe_pickle.tensor_from_buffer(view, dtype, count, offset)
        return storages[key]

    with archive.open(members["data.pkl"]) as pickled:
        return safe_pickle.load_pickle(pickled, storage)


def _data_offset(view: mmap.mmap, header: int) -> int:
    """Return where a member's bytes begin: behind its local header of 30 bytes, name and extra."""
    name = int.from_bytes(view[header + 26 : header + 28], "little")
    extra = int.from_bytes(view[header + 28 : header + 30], "little")
    return header + 30 + name + extra


def _in_detectron2_form(content: Any, path: str) -> dict[str, Any]:
    entries = content if isinstance(content, dict) else {}
    for entry in WEIGHT_ENTRIES:
        if _weight_count(entries.get(entry)):
            rest = {key: value for key, value in entries.items() if key != entry}
            return {**rest, "model": _tensors(entries[entry])}
    if _weight_count(entries):
        return {"model": _tensors(entries)}
    names = [f"{name:.40}" for name in entries if isinstance(name, str)][:10]
    keys = f" with the keys {', '.join(names)}" if names else ""
    raise UserError(
        f"{path} holds no weights: expected a dict of tensors, by itself or under one of "
        f"{', '.join(WEIGHT_ENTRIES)}; it holds a {type(content).__name__}{keys}."
    )


def _weight_count(value: Any) -> int:
    """Return how many tensors ``value`` has; 0 where it is no dict from names to tensors."""
    if not isinstance(value, dict):
        return 0
    return sum(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())


def _tensors(weights: dict) -> dict[str, torch.Tensor]:
    """Drop what is no tensor, in place, as torch keeps the versions of modules on the dict."""
    for name in [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]:
        del weights[name]
    return weights


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
