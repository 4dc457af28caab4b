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
from .pickle_containers import ContainerUnpickler
from .pickle_limits import UnsafePickleError, check_shape, check_sharing
from .pickle_standins import Array, Dtype, Settings, plain, text

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
        UnsafePickleError: the pickle asks for anything else, the message names it; or for so much
            that the size of the file does not account for it.
        UserError: it is damaged, or no pickle.
    """
    try:
        value = plain(_Unpickler(file, storage).load())
        check_sharing(value)
        return value
    except UnsafePickleError:
        raise
    except RecursionError as error:
        raise UserError("the pickle is nested too deeply") from error
    except (
        *(pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError),
        *(LookupError, MemoryError, RuntimeError, TypeError, ValueError, struct.error),
    ) as error:
        raise UserError(f"damaged pickle ({type(error).__name__}: {error})") from error


def tensor_from_buffer(
    buffer: Any, dtype: torch.dtype, count: int, offset: int = 0
) -> torch.Tensor:
    """Return a 1-D tensor of ``count`` numbers that shares memory with ``buffer``."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    with warnings.catch_warnings():  # bytes are read-only, but nobody else sees these
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.frombuffer(buffer, dtype=dtype, count=count, offset=offset)


class _Unpickler(ContainerUnpickler):
    def __init__(
        self,
        file: IO[bytes],
        storage: Callable[[tuple], torch.Tensor] | None,
        *,
        is_inner: bool = False,
    ) -> None:
        super().__init__(file)
        self._storage = storage
        self._is_inner = is_inner  # in the bytes of another pickle
        self._allowed: dict[str, Any] = dict.fromkeys(_SETTINGS, Settings)
        self._allowed |= {
            "collections.OrderedDict": partial(self.container, OrderedDict),
            "collections.defaultdict": self._default_dict,
            "_codecs.encode": self._encode,
            "numpy.ndarray": "ndarray",
            "numpy.dtype": self._dtype,
            "torch.Size": partial(self.container, tuple),
            "torch.device": self._text,
            "torch.Tensor": "Tensor",
            "torch.nn.parameter.Parameter": "Parameter",
            "torch.storage.UntypedStorage": torch.uint8,
            "torch.storage._load_from_bytes": self._load_from_bytes,
        }
        for module in ("builtins", "__builtin__"):
            self._allowed[f"{module}.bytes"] = self._empty_bytes
            for kind in (set, frozenset, list, tuple, dict):
                self._allowed[f"{module}.{kind.__name__}"] = partial(self.container, kind)
            self._allowed[f"{module}.complex"] = self._complex
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
        parts = tuple(map(text, reference)) if isinstance(reference, tuple) else ()
        if self._storage is None or not 5 <= len(parts) <= 6:
            raise pickle.UnpicklingError("a reference of an unknown form")
        _, dtype, key, _, count, *view = parts
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a reference of an unknown form")
        check_shape([count])
        if view and view[0] is not None:
            view = [tuple(map(text, view[0]))]
            check_shape(view[0][1:])
        storage = self._storage((*parts[:5], *view))
        self.budget.add_storage(key, storage.nbytes)
        return storage

    def load_build(self) -> None:
        """Set what an object holds; attributes of any but our stand-ins are refused or left."""
        target, state = self.stack[-2:]
        if type(target) is OrderedDict:  # torch keeps the versions of modules there
            self.stack.pop()
            if isinstance(state, dict) and "_metadata" in state:
                vars(target)["_metadata"] = state["_metadata"]
        elif isinstance(target, Array | Dtype | Settings):
            data = state[-1] if isinstance(target, Array) else state
            self.budget.spend(len(data))
            super().load_build()  # type: ignore[misc]  # the stubs leave it out
        else:
            raise UnsafePickleError(f"attributes of a {type(target).__name__}")

    def get_extension(self, code: int) -> None:
        raise UnsafePickleError(f"number {code} of copyreg's extensions")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = ContainerUnpickler.dispatch | {
        pickle.BUILD[0]: load_build,
    }

    # The stand-ins are methods, not functions: a pickle may set attributes of a function.

    def _default_dict(self, *_: Any) -> dict:
        return {}

    def _complex(self, *parts: Any) -> complex:
        if not all(isinstance(part, int | float) for part in parts):
            raise UnsafePickleError("a complex number of what is no number")
        return complex(*parts)

    def _text(self, *values: Any) -> str:
        if not all(isinstance(value, str | bytes | int) for value in values):
            raise UnsafePickleError("a device that is no text")
        return ":".join(str(text(value)) for value in values)

    def _empty_bytes(self) -> bytes:
        return b""

    def _encode(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":  # what numpy's arrays need up to 2
            shown = repr(encoding) if isinstance(encoding, str) else type(encoding).__name__
            raise UnsafePickleError(f"_codecs.encode to {shown:.40}")
        self.budget.spend(len(text))
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
        self.budget.spend(len(data))
        return Array().fill(data, dtype, shape, order)

    def _scalar(self, dtype: Dtype, data: Any = b"") -> Any:
        self.budget.spend(len(data))
        return data if dtype.code.startswith("O") else dtype.numbers(data)[0].item()

    def _rebuild_tensor(
        self, storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any
    ) -> torch.Tensor:
        self.budget.spend_view(size, storage.dtype.itemsize)
        return storage.as_strided(size, stride, offset)  # checks the bounds

    def _rebuild_tensor_v3(
        self, storage: torch.Tensor, offset: int, size: Any, stride: Any, *rest: Any
    ) -> torch.Tensor:
        _, _, dtype, *_ = rest  # the first two are requires_grad and hooks
        return self._rebuild_tensor(storage.view(dtype), offset, size, stride)

    def _rebuild_parameter(self, data: torch.Tensor, *_: Any) -> torch.Tensor:
        return data

    def _rebuild_from_type(self, rebuild: Callable, kind: Any, args: tuple, state: Any) -> Any:
        if not isinstance(kind, str) or kind not in ("Tensor", "Parameter"):
            shown = repr(kind) if isinstance(kind, str) else type(kind).__name__
            raise UnsafePickleError(f"a tensor of type {shown:.40}")
        return rebuild(*args)  # one of ours: a pickle has no other functions

    def _load_from_bytes(self, data: bytes) -> torch.Tensor:
        """Stand in for the reading of a storage; shares memory with ``data`` (see the memo)."""
        if self._is_inner:  # nested, few bytes can be read 2 ** n times
            raise UnsafePickleError("a storage inside of a storage")
        self.budget.spend(len(data))
        file = io.BytesIO(data)
        references: list[tuple] = []

        def storage(reference: tuple) -> torch.Tensor:
            references.append(reference)
            return torch.empty(0)

        def load() -> Any:
            return _Unpickler(file, storage, is_inner=True).load()

        if load() != LEGACY_MAGIC:
            raise UserError("a storage in an unknown format")
        for _ in range(4):  # version, machine, the storage itself, its key; then count and bytes
            load()
        [(_, dtype, _, _, count, *_)] = references
        return tensor_from_buffer(data, dtype, count, file.tell() + 8)
