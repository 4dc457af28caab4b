"""Modules under the published import paths, which are made when somebody imports them."""

import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from .paths import published_modules

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]  # of both packages


class _PublishedPaths(MetaPathFinder, Loader):
    """Finds the modules of the table that exist nowhere else, and fills them.

    It is asked last, so that a file of that name, of ours or in somebody's own copy of a package,
    is what is imported.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in published_modules() or not _is_ours(fullname.partition(".")[0]):
            return None
        has_children = any(name.startswith(f"{fullname}.") for name in published_modules())
        return spec_from_loader(fullname, self, origin="published name", is_package=has_children)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = f"The names of the published {module.__name__}, see docs/migrating.md."
        module.__all__ = list(published_modules()[module.__name__].names)
        _offer(module)


class _PublishedModule(ModuleType):
    """A module that says so where somebody replaces a name of the table in vain."""

    def __setattr__(self, name: str, value: Any) -> None:
        target = published_modules()[self.__name__].names.get(name)
        if target is not None and value is not resolve_name(target):
            logger.warning(
                "%s.%s is replaced, but nothing in this package calls it there: see "
                "docs/extending.md for what may be overridden", self.__name__, name,
            )  # fmt: skip
        super().__setattr__(name, value)


def _is_ours(package: str) -> bool:
    """Tell whether a package lies beside this one: somebody's own copy is left alone."""
    file = getattr(sys.modules.get(package), "__file__", None)
    return file is not None and Path(file).resolve().parents[1] == _ROOT


def _offer(module: ModuleType) -> None:
    """Let a module give the names that the table has for it, when they are first asked for."""
    path = module.__name__
    names, instead = published_modules()[path]

    def __getattr__(name: str) -> Any:
        if name in names:
            value = resolve_name(names[name])
            setattr(module, name, value)
            return value
        if name in instead:
            raise ImportError(f"{path} has no {name} here: use {instead[name]}", name=path)
        raise AttributeError(f"module {path!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*vars(module), *names})

    module.__getattr__, module.__dir__ = __getattr__, __dir__
    module.__class__ = _PublishedModule


def install() -> None:
    """Make the published import paths work; may be called again."""
    if not any(type(finder).__name__ == _PublishedPaths.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_PublishedPaths())
    for path in published_modules():
        if path in sys.modules:
            _offer(sys.modules[path])
