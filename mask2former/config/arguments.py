"""Constructors that may be called with a config or with arguments by name, as from LazyConfig."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import detectron2.config

from .loading import nearest_names

Init = Callable[..., None]

_REST = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def configurable(init: Init) -> Init:
    """Decorate an ``__init__`` as detectron2's `configurable`, and with `checks_names`."""
    return detectron2.config.configurable(checks_names(init))


def checks_names(init: Init) -> Init:
    """Decorate an ``__init__`` so that an unknown argument is an error that lists the known ones.

    Those are its own, and where it passes others on, those of the base classes.
    """

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        known = _known_arguments(type(self), init)
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no argument {', '.join(unknown)}"
                f"{nearest_names(unknown[0], known)}; it takes {', '.join(known)}"
            )
        init(self, *args, **kwargs)

    return checked


def takes(cls: type, name: str) -> bool:
    """Tell whether the constructor of a class takes an argument, or passes it on."""
    return name in _known_arguments(cls)


def unless_default(cls: type, **options: Any) -> dict[str, Any]:
    """Return those of a class's optional arguments that have another value than by default.

    With the others left out, what a `from_config` returns fits subclasses, too, whose constructors
    take the published arguments alone.
    """
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            parameters = inspect.signature(inspect.unwrap(vars(base)["__init__"])).parameters
            defaults |= {name: p.default for name, p in parameters.items()}
    empty = inspect.Parameter.empty
    return {name: x for name, x in options.items() if x != defaults.get(name, empty)}


def _known_arguments(cls: type, init: Init | None = None) -> list[str]:
    """Return the names that ``init`` of a class or of its base takes, or passes on."""
    inits = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    functions = [inspect.unwrap(function) for function in inits]
    start = functions.index(init) if init in functions else 0  # else it was put in from elsewhere
    known: dict[str, None] = {}
    for function in functions[start:]:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        kinds = {p.kind for p in parameters}
        known |= dict.fromkeys(p.name for p in parameters if p.kind not in _REST)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return list(known)
