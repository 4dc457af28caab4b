"""The part of unpickling that makes and fills lists, dicts and sets, at a bounded cost."""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import IO, Any, ClassVar, TypeVar

import torch

from .pickle_limits import Budget, Source, UnsafePickleError

_KEY_PARTS = 100
_KEY_BITS = 1 << 10  # Python computes the hash of a number anew each time
Items = TypeVar("Items", bound=Iterable)


def check_key(key: Any) -> None:
    """Raise UnsafePickleError where the hash of a dict's key or set's item takes long.

    That of a tuple is computed anew each time, over all that it holds.
    """
    if isinstance(key, str | bytes | float | torch.dtype) or key is None:
        return
    parts = [key]
    for count, part in enumerate(parts, 1):
        if count > _KEY_PARTS or (isinstance(part, int) and part.bit_length() > _KEY_BITS):
            raise UnsafePickleError("a key that is long or nested")
        if isinstance(part, tuple | frozenset):
            parts.extend(part)


def check_pairs(values: Any) -> None:
    """Raise UnsafePickleError where a dict cannot be made of ``values`` in one look at each.

    Python makes a list of each item before it counts whether these are pairs.
    """
    if isinstance(values, dict):
        return
    for pair in values:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UnsafePickleError("a dict of what is no pair")
        check_key(pair[0])


def _hashable(items: Items) -> Items:
    for item in items:
        check_key(item)
    return items


def _pairs(items: list[Any]) -> dict:
    return dict(zip(_hashable(items[::2]), items[1::2], strict=True))


class ContainerUnpickler(pickle._Unpickler):  # the one in Python, whose memo can be reached
    """An unpickler whose containers are filled with what is on the stack, and never by a walk over
    something that only claims to have items.
    """

    # What the type stubs of pickle leave out.
    stack: list[Any]
    memo: dict[int, Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: IO[bytes]) -> None:
        source = Source(file)
        # Python 2's arrays need no detour through str.
        super().__init__(source, encoding="bytes")
        self.budget = Budget(source)

    def container(self, kind: Callable, *values: Any) -> Any:
        """Make a container of a container: a tensor may claim more numbers than fit in memory."""
        for value in values:
            if not isinstance(value, list | tuple | set | frozenset | dict):
                name = getattr(kind, "__name__", "")
                raise UnsafePickleError(f"a {name} of a {type(value).__name__}")
            self.budget.spend(len(value))
            if kind in (dict, OrderedDict):
                check_pairs(value)
            elif kind in (set, frozenset):
                _hashable(value)
        return kind(*values)

    def load_bytearray8(self) -> None:
        """Read the bytes before memory is filled for them, as damage may claim any length."""
        (length,) = struct.unpack("<Q", self.read(8))
        data = self.read(length)
        if len(data) < length:
            raise EOFError(f"{length} bytes announced, {len(data)} left")
        self.append(bytearray(data))

    # What adds items to an object: tensors have methods of the same names, which compute with all
    # that they claim.

    def _below(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise UnsafePickleError(f"items in a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def load_append(self) -> None:
        value = self.stack.pop()
        self._below(list).append(value)

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._below(list).extend(items)

    def load_setitem(self) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        check_key(key)
        self._below(dict)[key] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._below(dict).update(_pairs(items))

    def load_dict(self) -> None:
        items = self.pop_mark()  # first, as it changes what append is
        self.append(_pairs(items))

    def load_additems(self) -> None:
        items = self.pop_mark()
        self._below(set).update(_hashable(items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(_hashable(items)))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch | {
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }
