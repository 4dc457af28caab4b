"""Unpickling that cannot run code from the file.

A pickle is a small program that may call whatever it names. Here every name that it asks for is
answered by a stand-in of ours, which builds an array, a tensor or a plain container and nothing
else; a name without a stand-in is refused. Neither numpy's nor torch's own rebuilding functions
are called, so their arguments need not be trusted either.
"""

import io
import pickle
import struct
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import IO, Any, ClassVar

import torch

from ...errors import UserError
from .pickle_standins import Array, Dtype, Settings, UnsafePickleError, plain, text

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of what torch.save wrote before 1.6
_LARGE = 1 << 16  # bytes of an array from which on it is worth while to save memory
_STORAGE_DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
# Settings that training scripts save beside the weights; they come as dicts of what they hold.
_SETTINGS = (
    "argparse.Namespace",
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "detectron2.config.config.CfgNode",
)


def load_pickle(file: IO[bytes], storage: Callable[[tuple], torch.Tensor] | None = None) -> Any:
    """Read the next pickle of ``file`` without running code from it.

    Args:
        file: opened for reading bytes; afterwards it stands behind the pickle.
        storage: answers torch's references to storages kept outside of the pickle, with a 1-D
            tensor; gets ``("storage", dtype, key, location, count, ...)``.

    Returns:
        dicts, lists, tuples, sets, numbers and strings as they are (strings and bytes of Python 2
        as str); arrays as tensors (arrays of strings as lists); numpy's scalars as Python's.

    Raises:
        UnsafePickleError: the pickle asks for anything else; the message names it.
        UserError: it is damaged, or no pickle.
    """
    try:
        return plain(_Unpickler(file, storage).load())
    except UnsafePickleError:
        raise
    except RecursionError as error:
        raise UserError("the pickle is nested too deeply") from error
    except (
        *(pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError),
        *(LookupError, MemoryError, RuntimeError, TypeError, ValueError, struct.error),
    ) as error:
        raise UserError(f"damaged pickle ({type(error).__name__}: {error})") from error


def read_legacy(file: io.BufferedReader, size: int) -> Any:
    """Read what ``torch.save`` wrote before its zip format: pickles, then the storages' bytes.

    Args:
        file: opened for reading bytes, standing behind the first pickle, `LEGACY_MAGIC`.
        size: bytes in the file; no storage may claim more.
    """
    storages: dict[str, torch.Tensor] = {}

    def storage(reference: tuple) -> torch.Tensor:
        _, dtype, key, _, count, *view = reference
        if key not in storages:
            if not 0 <= count * dtype.itemsize <= size:
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


def tensor_from_buffer(
    buffer: Any, dtype: torch.dtype, count: int, offset: int = 0
) -> torch.Tensor:
    """Return a 1-D tensor of ``count`` numbers that shares memory with ``buffer``."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    with warnings.catch_warnings():  # bytes are read-only, but nobody else sees these
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.frombuffer(buffer, dtype=dtype, count=count, offset=offset)


def _of_plain(kind: Callable, *values: Any) -> Any:
    """Make a container of containers only: a tensor may claim more numbers than fit in memory."""
    if any(not isinstance(value, list | tuple | set | frozenset | dict) for value in values):
        raise UnsafePickleError(f"a {kind.__name__} of a {type(values[0]).__name__}")
    return kind(*values)


class _Unpickler(pickle._Unpickler):  # the one in Python, whose memo can be reached
    # What the type stubs of pickle leave out.
    stack: list[Any]
    memo: dict[int, Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def __init__(self, file: IO[bytes], storage: Callable[[tuple], torch.Tensor] | None) -> None:
        super().__init__(file, encoding="bytes")  # Python 2's arrays need no detour through str
        self._storage = storage
        self._allowed: dict[str, Any] = dict.fromkeys(_SETTINGS, Settings)
        self._allowed |= {
            "collections.OrderedDict": OrderedDict,
            "collections.defaultdict": self._default_dict,
            "_codecs.encode": self._encode,
            "numpy.ndarray": "ndarray",
            "numpy.dtype": self._dtype,
            "torch.Size": partial(_of_plain, tuple),
            "torch.device": self._text,
            "torch.Tensor": "Tensor",
            "torch.nn.parameter.Parameter": "Parameter",
            "torch.storage.UntypedStorage": torch.uint8,
            "torch.storage._load_from_bytes": self._load_from_bytes,
        }
        for module in ("builtins", "__builtin__"):
            self._allowed[f"{module}.bytes"] = self._empty_bytes
            for kind in (set, frozenset, list, tuple, dict):
                self._allowed[f"{module}.{kind.__name__}"] = partial(_of_plain, kind)
            self._allowed[f"{module}.complex"] = complex
        for module in ("numpy.core", "numpy._core"):
            self._allowed[f"{module}.multiarray._reconstruct"] = self._reconstruct
            self._allowed[f"{module}.multiarray.scalar"] = self._scalar
            self._allowed[f"{module}.numeric._frombuffer"] = self._frombuffer
        for name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            self._allowed[f"torch._utils.{name}"] = self._rebuild_tensor
        for name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            self._allowed[f"torch._utils.{name}"] = self._rebuild_parameter
        self._allowed["torch._utils._rebuild_tensor_v3"] = self._rebuild_tensor_v3
        self._allowed["torch._tensor._rebuild_from_type_v2"] = self._rebuild_from_type
        for name, dtype in _STORAGE_DTYPES.items():
            self._allowed[f"torch.{name}Storage"] = dtype
            self._allowed[str(dtype)] = dtype

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in self._allowed:
            raise UnsafePickleError(asked)
        return self._allowed[asked]

    def persistent_load(self, reference: Any) -> torch.Tensor:
        reference = plain(reference)
        if self._storage is None or not isinstance(reference, tuple) or len(reference) < 5:
            raise pickle.UnpicklingError(f"unknown reference {reference!r}")
        return self._storage(reference)

    def load_build(self) -> None:
        """Set what an object holds; attributes of any but our stand-ins are refused or left."""
        target, state = self.stack[-2:]
        if type(target) is OrderedDict:  # torch keeps the versions of modules there
            self.stack.pop()
            if isinstance(state, dict) and "_metadata" in state:
                vars(target)["_metadata"] = state["_metadata"]
        elif isinstance(target, Array | Dtype | Settings):
            super().load_build()  # type: ignore[misc]  # the stubs leave it out
        else:
            raise UnsafePickleError(f"attributes of a {type(target).__name__}")

    def load_bytearray8(self) -> None:
        """Read the bytes before memory is filled for them, as damage may claim any length."""
        (length,) = struct.unpack("<Q", self.read(8))
        data = self.read(length)
        if len(data) < length:
            raise EOFError(f"{length} bytes announced, {len(data)} left")
        self.append(bytearray(data))

    def get_extension(self, code: int) -> None:
        raise UnsafePickleError(f"number {code} of copyreg's extensions")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch | {
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }

    # The stand-ins are methods, not functions: a pickle may set attributes of a function.

    def _default_dict(self, *_: Any) -> dict:
        return {}

    def _text(self, *values: Any) -> str:
        return ":".join(str(text(value)) for value in values)

    def _empty_bytes(self) -> bytes:
        return b""

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":  # what numpy's arrays need in protocols 0 to 2
            raise UnsafePickleError(f"_codecs.encode to {encoding!r}")
        data = text.encode("latin1")
        if len(data) >= _LARGE:
            self._forget(text)
        return data

    def _forget(self, value: Any) -> None:
        """Take an argument out of the memo, which would hold it until the pickle has been read.

        Up to protocol 2 the bytes of an array come as text; without this, both stay in memory.
        """
        for index, kept in list(self.memo.items()):
            if kept is value or (type(kept) is tuple and any(part is value for part in kept)):
                del self.memo[index]

    def _dtype(self, *args: Any) -> Dtype:
        return Dtype(*args)

    def _reconstruct(self, *_: Any) -> Array:
        return Array()

    def _frombuffer(self, data: Any, dtype: Dtype, shape: tuple, order: Any) -> Array:
        return Array().fill(data, dtype, shape, order)

    def _scalar(self, dtype: Dtype, data: Any = b"") -> Any:
        return data if dtype.code.startswith("O") else dtype.numbers(data)[0].item()

    def _rebuild_tensor(
        self, storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any
    ) -> torch.Tensor:
        return storage.as_strided(size, stride, offset)  # checks the bounds

    def _rebuild_tensor_v3(
        self, storage: torch.Tensor, offset: int, size: Any, stride: Any, *rest: Any
    ) -> torch.Tensor:
        _, _, dtype, *_ = rest  # the first two are requires_grad and hooks
        return storage.view(dtype).as_strided(size, stride, offset)

    def _rebuild_parameter(self, data: torch.Tensor, *_: Any) -> torch.Tensor:
        return data

    def _rebuild_from_type(self, rebuild: Callable, kind: Any, args: tuple, state: Any) -> Any:
        if kind not in ("Tensor", "Parameter"):
            raise UnsafePickleError(f"a tensor of type {kind!r}")
        return rebuild(*args)  # one of ours: a pickle has no other functions

    def _load_from_bytes(self, data: bytes) -> torch.Tensor:
        """Stand in for the reading of a storage; shares memory with ``data`` (see the memo)."""
        file = io.BytesIO(data)
        if load_pickle(file) != LEGACY_MAGIC:
            raise UserError("a storage in an unknown format")
        references: list[tuple] = []

        def storage(reference: tuple) -> torch.Tensor:
            references.append(reference)
            return torch.empty(0)

        for _ in range(4):  # version, machine, the storage itself, its key; then count and bytes
            load_pickle(file, storage)
        [(_, dtype, _, _, count, *_)] = references
        return tensor_from_buffer(data, dtype, count, file.tell() + 8)
