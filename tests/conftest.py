"""Fixtures and options of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# The workers share the cores: more threads each would only get in each other's way.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and real data; tests that need it are skipped without it."""
    path = Path(os.environ.get("MASK2FORMER_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference folder {path} (MASK2FORMER_SHARED names another one)")
    return path


@pytest.fixture
def dataset_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that DETECTRON2_DATASETS names during the test."""
    path = tmp_path / "datasets"
    path.mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(path))
    return path
