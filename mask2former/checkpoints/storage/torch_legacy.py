"""What ``torch.save`` wrote before its zip format."""

import io
from typing import Any

import torch

from ...errors import UserError
from .safe_pickle import load_pickle


def read_legacy(file: io.BufferedReader, size: int) -> Any:
    """Read what ``torch.save`` wrote before its zip format: pickles, then the storages' bytes.

    Args:
        file: opened for reading bytes, standing behind the first pickle, `LEGACY_MAGIC`.
        size: bytes in the file; the storages may not claim more.

    Raises:
        UserError: a storage does not fit into the file, or into what the pickles say of it.
    """
    storages: dict[str, torch.Tensor] = {}
    left = size

    def storage(reference: tuple) -> torch.Tensor:
        nonlocal left
        _, dtype, key, _, count, *view = reference
        if key not in storages:
            left -= count * dtype.itemsize
            if left < 0:
                raise UserError(f"a storage of {count} numbers does not fit in {size} bytes")
            storages[key] = torch.empty(count, dtype=dtype)  # filled below
        if view and view[0]:
            _, offset, length = view[0]
            return storages[key][offset : offset + length]
        return storages[key]

    load_pickle(file)  # the protocol's version
    load_pickle(file)  # byte order and sizes of the machine that wrote it
    content = load_pickle(file, storage)
    keys = load_pickle(file)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(map(str, storages)):
        raise UserError("its list of storages does not fit its content")
    for key in keys:
        tensor = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count not in (tensor.numel(), tensor.nbytes):
            raise UserError(f"storage {key} holds {count} numbers instead of {tensor.numel()}")
        if tensor.numel() == 0:
            continue
        if file.readinto(tensor.view(torch.uint8).numpy().data) != tensor.nbytes:
            raise UserError("the file is truncated")
    return content
