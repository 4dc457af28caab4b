"""What the registrations of all datasets share: adding names once, metadata, and loading."""

import difflib
import os
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.data import MetadataCatalog

from ...annotations.parts.categories import palette as palette
from ...errors import UserError
from ...formats import json_files
from . import catalog

Category = Mapping[str, Any]
Record = dict[str, Any]

LONG_SPLITS = {"train": "training", "val": "validation"}  # how folders call them


def add(
    name: str, load: Callable[[], list[Record]], *, lazily: bool = False, **metadata: Any
) -> None:
    """Register a dataset in detectron2's catalogs, where it gives way to those of others.

    A name that is registered already is left as it is. Nothing is read before the dataset is
    asked for.

    Args:
        lazily: as for `catalog.add`.
    """
    catalog.add(name, load, metadata, lazily=lazily)


def fill_metadata(name: str, **metadata: Any) -> None:
    """Add the entries that the metadata of ``name`` lacks; those that it has stay."""
    known = MetadataCatalog.get(name)
    present = known.as_dict()
    known.set(**{key: value for key, value in metadata.items() if key not in present})


def require_registered(name: str) -> None:
    """Raise a UserError that names the nearest ones, unless there is a dataset of that name."""
    catalog.take(name)
    known = catalog.names()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 5, 0.4)) or "none"
        raise UserError(f"there is no dataset named {name!r}; near names: {near}")


def require(path: str, hint: str) -> str:
    """Return ``path``, which has to exist.

    Raises:
        FileNotFoundError: with ``hint``, which says how to make it.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing. {hint}")
    return path


def read_json(path: str, hint: str) -> dict[str, Any]:
    """Read an annotation file.

    Raises:
        FileNotFoundError: with ``hint``, which says how to make it.
        UserError: the file is no json object.
    """
    content = json_files.read_json(require(path, hint))
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a json {type(content).__name__}, expected an object")
    return content


def hint(script: str) -> str:
    """Return what messages say about a missing file that datasets/prepare_``script``.py makes."""
    return f"Make it with: python datasets/prepare_{script}.py (datasets/README.md shows the tree)"
