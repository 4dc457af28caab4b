"""Class tables as data: one json file a family of datasets, read once and only when asked for."""

import functools
from pathlib import Path
from typing import Any

from ...formats.json_files import read_json

__all__ = ["load_categories"]


@functools.cache
def load_categories(family: str) -> tuple[dict[str, Any], ...]:
    """Return the classes of a family of datasets, in the order of their contiguous ids.

    Each is a dict of COCO's kind: ``id`` as in the annotation files, ``name``, and where the family
    has them ``isthing`` (0 or 1) and ``color`` (RGB, 0..255). Treat them as read-only.

    Raises:
        FileNotFoundError: there is no table ``family``.json; the message lists those there are.
    """
    path = Path(__file__).with_name(f"{family}.json")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.json")))
        raise FileNotFoundError(f"no class table {path}; there are: {known}")
    return tuple(read_json(path))
