"""Fixtures and options of the whole suite."""

from __future__ import annotations

import faulthandler
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

_traces = pytest.StashKey[Path]()
_trace = pytest.StashKey[TextIO]()

# How long an example takes says more about the machine than about the code. A new example that
# fails should not stop an unrelated change: look for new ones with RANDOM_EXAMPLES=1.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize="RANDOM_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

# The workers share the cores: more threads each would only get in each other's way.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Once a process has had threads of autograd, its forks cannot train.
    items.sort(key=lambda item: "forks" not in item.keywords)
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """A worker leaves a trace in a file if it crashes: what it prints is lost among the dots."""
    if not hasattr(config, "workerinput"):
        config.stash[_traces] = Path(tempfile.mkdtemp(prefix="crash-traces-"))
        return
    config.stash[_trace] = Path(config.workerinput["crash_trace"]).open("w")  # noqa: SIM115
    faulthandler.enable(config.stash[_trace])


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's, before a worker starts
def pytest_configure_node(node: Any) -> None:
    folder = node.config.stash[_traces]
    node.workerinput["crash_trace"] = str(folder / f"{node.gateway.id}.txt")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for path in sorted(terminalreporter.config.stash[_traces].glob("*.txt")):
        if text := path.read_text():
            terminalreporter.section(f"worker {path.stem} crashed")
            terminalreporter.write(text)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _traces in config.stash:
        shutil.rmtree(config.stash[_traces], ignore_errors=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and real data; tests that need it are skipped without it."""
    path = Path(os.environ.get("MASK2FORMER_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference folder {path} (MASK2FORMER_SHARED names another one)")
    return path


@pytest.fixture(autouse=True)
def names_of_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a test, the names of datasets that are ours are what they were before."""
    from mask2former.data.datasets import catalog

    offers = {name: replace(o, filled=set(o.filled)) for name, o in catalog._OURS.items()}
    monkeypatch.setattr(catalog, "_OURS", offers)


@pytest.fixture
def dataset_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that DETECTRON2_DATASETS names during the test."""
    path = tmp_path / "datasets"
    path.mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(path))
    return path
