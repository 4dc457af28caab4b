"""Signals by hand; weights that are not finite."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mask2former.engine.hooks import StopOnSignal, TargetCounter, check_finite


class Checkpoints:
    def __init__(self) -> None:
        self.saved: list[tuple[str, int]] = []

    def save(self, name: str, iteration: int) -> None:
        self.saved.append((name, iteration))

    def get_checkpoint_file(self) -> str:
        return f"folder/{self.saved[-1][0]}.pth" if self.saved else ""


@pytest.fixture
def hook() -> Any:
    hook = StopOnSignal(Checkpoints())
    hook.trainer = SimpleNamespace(iter=3, max_iter=10)
    before = signal.getsignal(signal.SIGINT)
    hook.before_train()
    yield hook
    hook.after_train()
    assert signal.getsignal(signal.SIGINT) is before


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_nothing_happens_without_a_signal(hook: StopOnSignal) -> None:
    hook.after_step()
    assert hook._checkpointer.saved == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_saves_after_the_step(hook: StopOnSignal, number: int, code: int) -> None:
    send(number)
    assert hook._checkpointer.saved == []
    with pytest.raises(SystemExit) as stop:
        hook.after_step()
    assert stop.value.code == code
    assert hook._checkpointer.saved == [("model_0000003", 3)]


def test_does_not_save_twice(hook: StopOnSignal) -> None:
    hook._checkpointer.save("model_0000003", 3)
    send(signal.SIGTERM)
    with pytest.raises(SystemExit):
        hook.after_step()
    assert len(hook._checkpointer.saved) == 1


def test_last_iteration_is_saved_as_final_already(hook: StopOnSignal) -> None:
    hook.trainer.iter = 9
    send(signal.SIGTERM)
    with pytest.raises(SystemExit):
        hook.after_step()
    assert hook._checkpointer.saved == []


def test_evaluation_is_left_at_once(hook: StopOnSignal) -> None:
    hook.after_step()
    with pytest.raises(SystemExit) as stop, hook.interruptible():
        send(signal.SIGINT)
        pytest.fail("not interrupted")
    assert stop.value.code == 130
    assert hook._checkpointer.saved == [("model_0000003", 3)]


def test_what_was_trained_is_saved_where_an_evaluation_fails(
    hook: StopOnSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    hook.after_step()
    with pytest.raises(RuntimeError, match="closed by peer"), hook.interruptible():
        raise RuntimeError("Connection closed by peer")
    assert hook._checkpointer.saved == [("model_0000003", 3)]
    hook._checkpointer.saved.clear()
    monkeypatch.setattr(hook._checkpointer, "save", fail)
    with pytest.raises(RuntimeError, match="closed by peer"), hook.interruptible():
        raise RuntimeError("Connection closed by peer")


def test_before_the_first_step_there_is_nothing_to_save(hook: StopOnSignal) -> None:
    with pytest.raises(SystemExit), hook.interruptible():
        send(signal.SIGINT)
    assert hook._checkpointer.saved == []


def test_second_ctrl_c_stops_at_once_but_not_a_repeated_one(
    hook: StopOnSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(signal.SIGINT)
    send(signal.SIGINT)  # as torchrun repeats it
    monkeypatch.setattr(hook, "_grace_s", 0.0)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    send(signal.SIGTERM)  # waits, as a kill without mercy follows anyway


def test_forked_workers_ignore_signals(hook: StopOnSignal) -> None:
    with hook.interruptible():
        child = os.fork()
        if child == 0:
            try:
                send(signal.SIGINT)
                os._exit(7)
            finally:
                os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_names_weights_that_are_not_finite() -> None:
    model = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    check_finite(model, 5)
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    expected = r"after iteration 5: 0\.weight, 0\.bias, 1\.weight and 3 more; they are not saved"
    with pytest.raises(FloatingPointError, match=expected):
        check_finite(model, 5)


def test_more_targets_than_queries_are_said_once(messages: pytest.LogCaptureFixture) -> None:
    counter = TargetCounter(num_queries=3)
    for count in (3, 4, 9):
        batch = [{"file_name": "a.jpg"}, {"file_name": "b.jpg", "instances": [[0] * count, [0]]}]
        counter.trainer = SimpleNamespace(last_batch=batch)
        counter.after_step()
    assert len(messages.messages) == 1
    assert "b.jpg has 4 targets, more than the 3 queries" in messages.text
    assert "NUM_OBJECT_QUERIES to 4 or more" in messages.text
