"""The progress line and bar against what was put in; the time left against a clock by hand."""

import fcntl
import io
import logging
import os
import struct
import sys
import termios
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from mask2former.engine.watching import progress
from mask2former.engine.watching.progress import Clock, ProgressBar, ProgressPrinter


def test_progress_line_sums_layers(messages: pytest.LogCaptureFixture) -> None:
    with EventStorage(19) as storage:
        losses = {"loss_ce": 1.0, "loss_mask": 2.0, "loss_dice": 3.0}
        aux = {f"{name}_{i}": value for name, value in losses.items() for i in range(9)}
        storage.put_scalars(total_loss=60.0, time=0.5, data_time=0.01, lr=1e-4, **losses, **aux)
        ProgressPrinter(max_iter=120).write()
        assert storage.latest()["eta_seconds"][0] == 50.0
    assert messages.messages[0].startswith(
        "iter 20/120  loss 60 (ce 10  mask 20  dice 30)  0.500 s/iter  data 0.010 s  lr 0.0001"
    )
    assert messages.messages[0].endswith("left 0:00:50")


def test_progress_line_shows_the_median(messages: pytest.LogCaptureFixture) -> None:
    with EventStorage(0) as storage:
        for storage.iter, loss in enumerate([100.0, 1.0, 2.0, 3.0]):
            storage.put_scalars(total_loss=loss, loss_sem_seg=loss)
        ProgressPrinter(max_iter=10, window_size=3).write()
    assert messages.messages == ["iter 4/10  loss 2 (sem_seg 2)"]


def test_progress_line_is_not_repeated_at_the_end(messages: pytest.LogCaptureFixture) -> None:
    with EventStorage(10):
        ProgressPrinter(max_iter=10).write()
    assert messages.messages == []


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that the clock sees, to be set."""
    now = SimpleNamespace(seconds=0.0)
    fake = SimpleNamespace(perf_counter=lambda: now.seconds)
    monkeypatch.setattr(progress, "time", fake)
    return now


def run(clock: Clock, now: SimpleNamespace, steps: int, pause: float, evaluation: float) -> None:
    """Let a clock see steps of a second, with an evaluation after every tenth."""
    clock.trainer = SimpleNamespace(iter=0)
    for clock.trainer.iter in range(steps):
        clock.before_step()
        now.seconds += 1
        clock.after_step()
        now.seconds += evaluation if (clock.trainer.iter + 1) % 10 == 0 else pause


def test_time_left_counts_evaluations_and_pauses(now: SimpleNamespace) -> None:
    clock = Clock(max_iter=40, eval_period=10)
    run(clock, now, steps=5, pause=0.5, evaluation=30)
    assert clock.seconds_left(5, step=1.0) == (35 * 1.5, 4)  # evaluations are still unknown
    clock = Clock(max_iter=40, eval_period=10)
    run(clock, now, steps=25, pause=0.5, evaluation=30)
    assert clock.seconds_left(25, step=1.0) == (15 * 1.5 + 2 * 30, 0)  # after 30, and at the end
    assert clock.seconds_left(40, step=1.0) == (30, 0)


def test_a_step_that_takes_long_is_no_pause(now: SimpleNamespace) -> None:
    clock = Clock(max_iter=10, eval_period=0)
    run(clock, now, steps=2, pause=0, evaluation=0)
    now.seconds += 0.0
    clock.before_step()
    now.seconds += 3600  # the machine slept
    clock.after_step()
    clock.before_step()
    assert clock.seconds_left(4, step=1.0) == (6.0, 1)


def test_the_line_names_evaluations_of_unknown_length(
    messages: pytest.LogCaptureFixture,
) -> None:
    with EventStorage(9) as storage:
        storage.put_scalar("time", 2.0)
        ProgressPrinter(30, clock=Clock(30, 10)).write()
        assert storage.latest()["memory_mib"][0] > 50
    assert messages.messages[0].endswith("left 0:00:40 and 2 evaluations")


def test_the_bar(messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", screen)
    bar = ProgressBar(10)
    with EventStorage(0) as storage:
        for storage.iter in (1, 3):
            storage.put_scalars(total_loss=5.0, time=1.0)
            bar.write()
        logging.getLogger("mask2former").warning("something else")
        bar.close()
    text = screen.getvalue()
    assert " 20% |" in text and " 40% |" in text and "left 0:00:06" in text
    assert len(messages.messages) == 3  # log.txt has the lines as well


@pytest.mark.parametrize("size", [(0, 0), (1, 80), (24, 80)])
def test_the_bar_in_terminals_of_any_size(
    size: tuple[int, int], messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 rows and columns are what terminals say that nobody has told their size."""
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    with os.fdopen(inner, "w") as screen, EventStorage(1) as storage:
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("COLUMNS", "80")
        bar = ProgressBar(10)
        storage.put_scalars(total_loss=5.0, time=1.0, **{f"loss_{x * 9}": 1.0 for x in "abcd"})
        bar.write()
        bar.close()
        text = os.read(outer, 10_000).decode()
    os.close(outer)
    assert " 20% |" in text
    assert "iter 2/10  left 0:00:08  loss 5 (" in text  # what has no room is the rest


def test_lines_where_the_screen_is_no_terminal(
    messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    bar = ProgressBar(10)
    with EventStorage(1) as storage:
        storage.put_scalar("time", 1.0)
        bar.write()
        bar.close()
    assert screen.getvalue() == ""
    assert "iter 2/10" in messages.text
