"""Datasets that exist for one test."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

_numbers = itertools.count()


@pytest.fixture
def catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """detectron2's catalogs, without any dataset until the test is over."""
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})


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
