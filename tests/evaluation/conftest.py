"""Data sets that exist for one test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

_numbers = itertools.count()


@pytest.fixture
def register() -> Iterator[Callable[..., str]]:
    """Registers records and metadata under a new name, and returns the name."""
    names = []

    def add(records: list[dict[str, Any]] | None = None, **metadata: Any) -> str:
        name = f"evaluation_test_{next(_numbers)}"
        names.append(name)
        DatasetCatalog.register(name, lambda: records or [])
        MetadataCatalog.get(name).set(**metadata)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
