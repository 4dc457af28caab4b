"""Json files of annotations and results: errors name the file, writing is whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from .atomic import atomic_path


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not json; names the file.
    """
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:  # json's errors and those of UTF-8 are kinds of it
            raise ValueError(f"{path}: expected a json file: {error}") from error


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> None:
    """Writes json and makes its folder; NaN and infinities, which json lacks, become null."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, open(part, "w", encoding="utf-8") as file:
        json.dump(_finite(value), file, indent=indent, allow_nan=False)


def write_json_list(path: str | os.PathLike[str], entries: Iterable[str]) -> None:
    """Writes entries that are json text already as a list, a line each, and makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, open(part, "w", encoding="utf-8") as file:
        separator = "[\n"
        for entry in entries:
            file.write(separator + entry)
            separator = ",\n"
        file.write("\n]\n" if separator == ",\n" else "[]\n")


def require_keys(entry: Any, keys: Collection[str]) -> None:
    """Raises a ValueError where ``entry`` is no json object with these keys."""
    missing = [key for key in keys if key not in entry] if isinstance(entry, Mapping) else keys
    if missing:
        raise ValueError(
            f"expected an object with {', '.join(keys)}; missing: {', '.join(missing)}"
        )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
