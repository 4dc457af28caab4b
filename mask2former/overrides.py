"""What subclasses replace: which methods, which of them in vain, and attributes of other names.

Where all methods are the package's own, results may be computed another way than by calling them
one by one. Where one has been replaced, by a subclass, on an object or in its class, it is called.
"""

from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])

_own: set[FunctionType] = set()


def replaceable(method: Method) -> Method:
    """Mark a method as the package's own; for use as a decorator."""
    _own.add(method)
    return method


def is_replaced(owner: object, *names: str) -> bool:
    """Tell whether a class or an object has other methods of these names than the marked ones."""
    for name in names:
        method = getattr(owner, name)
        function = getattr(method, "__func__", method)
        if not isinstance(function, FunctionType) or function not in _own:
            return True
    return False


def refuse_overrides(owner: object, names: Iterable[str], instead: str) -> None:
    """Refuse methods that the class of an object does not have, and so would never call.

    Args:
        owner: the object.
        names: of the methods.
        instead: what to do, a sentence in the imperative.

    Raises:
        TypeError: the object or a subclass has one; says which.
    """
    found = [name for name in names if hasattr(type(owner), name) or name in vars(owner)]
    if found:
        raise TypeError(
            f"{type(owner).__name__} overrides {' and '.join(found)}, which would never be called. "
            f"{instead}"
        )


def alias_of(name: str) -> Any:
    """Return a property that reads and sets another attribute, for that one's published name."""
    return property(
        lambda self: getattr(self, name), lambda self, value: setattr(self, name, value)
    )
