"""Writers that cannot write, in a training."""

import errno
from pathlib import Path
from typing import Any

import pytest
from detectron2.utils.events import EventWriter

from tests.engine.stub import StubTrainer, make_cfg


class FullWriter(EventWriter):
    """Finds a full disk in each but the first and the last of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def write(self) -> None:
        self.calls += 1
        if 1 < self.calls < 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class BrokenWriter(FullWriter):
    def write(self) -> None:
        raise KeyError("a fault of the program")


def train_with(writer: EventWriter, folder: Path) -> None:
    class Trainer(StubTrainer):
        def build_writers(self) -> list[Any]:
            return [writer, *super().build_writers()]

    Trainer(make_cfg(folder)).train()


def test_a_full_disk_is_said_once_and_tried_again(
    tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    writer = FullWriter()
    train_with(writer, tmp_path)
    assert writer.calls == 6  # every second of ten iterations, and at the end
    text = "FullWriter cannot write, and training goes on: [Errno 28] No space left on device"
    assert messages.text.count(text) == messages.text.count("No space left") == 1
    assert len((tmp_path / "metrics.json").read_text().splitlines()) == 6
    assert (tmp_path / "model_final.pth").is_file()


def test_other_errors_end_the_training(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="a fault of the program"):
        train_with(BrokenWriter(), tmp_path)
