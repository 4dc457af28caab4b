"""Registration with detectron2: as soon as both packages are imported, in whichever order.

So `mask2former.runtime` can be imported where there is no detectron2, or without loading it, while
a program that imports this package as detectron2's plugin finds the models by name.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = __name__.rpartition(".")[0]
_OURS = f"{_PACKAGE}."


def register() -> ModuleType:
    """Register models and datasets; return the module with the names that need detectron2.

    Raises:
        ImportError: detectron2 is missing; says how to get it.
    """
    with _watch.paused(), _quietly():
        return importlib.import_module(f"{_PACKAGE}.plugin")


def register_with_detectron2() -> None:
    """Register now if detectron2 is imported, else as soon as it is."""
    if "detectron2" in sys.modules:
        register()
    else:
        _watch.start()


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide what fvcore and detectron2 call when they are imported."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
        yield


class _Watch(MetaPathFinder):
    """Registers when the import that brought detectron2 ends.

    That may be one of detectron2 or one of a module of ours, which is complete by then.
    """

    def __init__(self) -> None:
        self.depth = 0  # of imports that are under way

    def start(self) -> None:
        if not any(type(finder).__name__ == _Watch.__name__ for finder in sys.meta_path):
            sys.meta_path.insert(0, self)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stay away unless an error comes, so that what failed is tried again."""
        was_there = self in sys.meta_path
        with suppress(ValueError):
            sys.meta_path.remove(self)
        try:
            yield
        except BaseException:
            if was_there:
                self.start()
            raise

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "detectron2" and not fullname.startswith(_OURS):
            return None
        finders = [f for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        found = (finder.find_spec(fullname, path, target) for finder in finders)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchedLoader(spec.loader, self)
        return spec


class _WatchedLoader(Loader):
    """Loads a module as its own loader does, which the module has afterwards.

    What else the own one can do, such as give the code to `python -m`, this one can.
    """

    def __init__(self, own: Loader, watch: _Watch) -> None:
        self.own = own
        self.watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.own
        if module.__spec__ is not None:
            module.__spec__.loader = self.own
        self.watch.depth += 1
        try:
            with _quietly():
                self.own.exec_module(module)
        finally:
            self.watch.depth -= 1
        if not self.watch.depth and "detectron2" in sys.modules:
            register()


_watch = _Watch()
