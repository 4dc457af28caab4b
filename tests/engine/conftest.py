"""What the tests of the engine share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.data.synthetic import write_shapes
from tests.engine.resume.runs import use_shapes


@pytest.fixture(autouse=True)
def restore_loggers() -> Iterator[None]:
    """Undoes what detectron2's setup_logger does to loggers, which all tests share."""
    logs = [logging.getLogger(name) for name in ("fvcore", "detectron2", "mask2former")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in logs]
    yield
    for log, (level, propagate, handlers) in zip(logs, before, strict=True):
        log.setLevel(level)
        log.propagate, log.handlers = propagate, handlers


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """caplog for the package's messages, whether or not detectron2 has set its loggers up."""
    log = logging.getLogger("mask2former")
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)
    log.setLevel(level)
    log.propagate = propagate


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ten drawn images to train on and two to test on, registered as the shapes datasets."""
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root, seed=5, train=10, val=2, size=64, workers=1)
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    use_shapes(root)
    yield root
    for catalog, data in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        catalog.data.clear()
        catalog.data.update(data)
