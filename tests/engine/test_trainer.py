"""Whole short trainings of a tiny model: going on after a stop, failures, precision."""

import errno
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from mask2former.engine.step import TrainStep, choose_autocast_dtype
from tests.engine.stub import SignalledTrainer, StubTrainer, make_cfg


class SpoiltTrainer(StubTrainer):
    """Has a loss that is not a number at one iteration."""

    at_iter = 7

    def run_step(self) -> None:
        model = self.model
        if self.iter == self.at_iter:
            forward = model.forward
            model.forward = lambda batch: {**forward(batch), "loss_mask": torch.tensor(torch.nan)}
        super().run_step()


def train(trainer: StubTrainer, resume: bool = False) -> StubTrainer:
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_and_resumed_equals_uninterrupted(
    tmp_path: Path, messages: pytest.LogCaptureFixture, number: int, code: int
) -> None:
    torch.manual_seed(0)
    before = signal.getsignal(signal.SIGTERM)
    stopped = SignalledTrainer(make_cfg(tmp_path / "a"))
    stopped.number = number
    straight = StubTrainer(make_cfg(tmp_path / "b"))
    straight.model.load_state_dict(stopped.model.state_dict())
    straight.data_loader.dataset.sampler._seed = stopped.data_loader.dataset.sampler._seed
    straight.train()
    with pytest.raises(SystemExit) as stop:
        stopped.train()
    assert stop.value.code == code
    assert "after iteration 4. To go on, run the same command with --resume" in messages.text
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = StubTrainer(make_cfg(tmp_path / "a"))
    resumed = train(resumed, resume=True)
    assert resumed.start_iter == 5
    assert stopped.model.seen + resumed.model.seen == straight.model.seen
    for ours, theirs in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    rates = [t.optimizer.param_groups[0]["lr"] for t in (resumed, straight)]
    assert rates[0] == rates[1] > 0


def test_says_what_becomes_of_earlier_checkpoints(
    tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    trainer = StubTrainer(make_cfg(tmp_path))
    trainer.resume_or_load(resume=True)
    assert f"no checkpoint in {tmp_path} to resume from" in messages.text
    assert trainer.start_iter == 0
    trainer.checkpointer.save("model_0000002", iteration=2)
    messages.clear()
    trainer.resume_or_load(resume=False)
    assert "holds checkpoints of an earlier run, which are overwritten" in messages.text


def test_signal_cuts_evaluation_short(tmp_path: Path) -> None:
    class Trainer(StubTrainer):
        @classmethod
        def build_test_loader(cls, cfg: Any, name: str) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("evaluation goes on")

    trainer = Trainer(make_cfg(tmp_path, "TEST.EVAL_PERIOD", 5))
    with pytest.raises(SystemExit) as stop:
        trainer.train()
    assert stop.value.code == 143
    assert trainer.checkpointer.get_checkpoint_file().endswith("model_0000004.pth")


def test_loss_that_is_not_finite(tmp_path: Path) -> None:
    trainer = SpoiltTrainer(make_cfg(tmp_path))
    weights: list[torch.Tensor] = []
    trainer.model.register_forward_pre_hook(
        lambda model, _: weights.append(model.backbone.weight.detach().clone())
    )
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    assert "not finite at iteration 7: loss_mask is nan." in str(error.value)
    assert str(tmp_path / "model_0000005.pth") in str(error.value)
    assert len(weights) == 8
    torch.testing.assert_close(trainer.model.backbone.weight.detach(), weights[-1], rtol=0, atol=0)
    assert trainer.checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000005.pth")
    assert not list(tmp_path.glob("model_0000006*")) and not list(tmp_path.glob("*final*"))
    assert not (tmp_path / "inference").exists()
    assert logging.getLogger("detectron2.engine.train_loop").level == logging.NOTSET  # given back


def test_no_evaluation_after_a_failure_of_the_last_iteration(tmp_path: Path) -> None:
    trainer = SpoiltTrainer(make_cfg(tmp_path))
    trainer.at_iter = 9
    with pytest.raises(FloatingPointError, match="iteration 9"):
        trainer.train()
    assert not (tmp_path / "inference").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    class Trainer(StubTrainer):
        def run_step(self) -> None:
            super().run_step()
            if self.iter == 5:
                self.model.backbone.weight.data.fill_(torch.inf)

    trainer = Trainer(make_cfg(tmp_path))
    with pytest.raises(FloatingPointError, match=r"after iteration 5: backbone\.weight"):
        trainer.train()
    assert trainer.checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000002.pth")


def test_a_full_disk_ends_training_with_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[str] = []

    def save(content: Any, path: str) -> None:
        saves.append(path)
        if len(saves) == 2:
            with open("/dev/full", "wb", buffering=0) as full:
                torch.save(content, full)
        torch.save(content, path)

    monkeypatch.setattr("mask2former.checkpoints.checkpointer.save_torch", save)
    good = tmp_path / "model_0000002.pth"
    with pytest.raises(OSError, match=f"the last good checkpoint is {good}"):
        StubTrainer(make_cfg(tmp_path)).train()
    assert torch.load(good)["iteration"] == 2
    assert not list(tmp_path.glob("model_0000005*"))
    resumed = StubTrainer(make_cfg(tmp_path))
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "scores.json"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "scores.json"),
        OSError("of a library that knows no numbers"),
    ],
    ids=["full", "missing", "no-number"],
)
def test_an_evaluation_that_cannot_write_ends_training_with_the_last_good_checkpoint(
    tmp_path: Path, error: OSError
) -> None:
    class Trainer(StubTrainer):
        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> dict[str, Any]:
            raise error

    good = tmp_path / "model_0000004.pth"
    with pytest.raises(type(error)) as caught:
        Trainer(make_cfg(tmp_path, "TEST.EVAL_PERIOD", 5)).train()
    ending = f"Training has stopped; the last good checkpoint is {good}"
    assert str(caught.value) == f"{error}. {ending}"
    resumed = StubTrainer(make_cfg(tmp_path))
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 5


def test_resumes_a_state_with_one_group_for_each_parameter(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        SignalledTrainer(make_cfg(tmp_path / "a")).train()
    path = tmp_path / "a" / "model_0000004.pth"
    straight = train(StubTrainer(make_cfg(tmp_path / "a")), resume=True)
    checkpoint = torch.load(path)
    step, hooks = checkpoint["trainer"]["_trainer"], checkpoint["trainer"]["hooks"]
    group = step["optimizer"]["param_groups"]
    assert len(group) == 2
    step["optimizer"]["param_groups"] = [{**g, "params": [i]} for g in group for i in g["params"]]
    hooks["LRScheduler"]["base_lrs"] = [0.05] * 4
    torch.save(checkpoint, path)
    (tmp_path / "a" / "last_checkpoint").write_text(path.name)
    resumed = train(StubTrainer(make_cfg(tmp_path / "a")), resume=True)
    for ours, theirs in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("device", "enabled", "name", "bf16", "expected"),
    [
        ("cpu", True, "float16", True, torch.bfloat16),
        ("cpu", True, "bfloat16", False, None),
        ("cpu", False, "float16", True, None),
        ("cuda", True, "float16", False, torch.float16),
        ("cuda", True, "bfloat16", False, torch.bfloat16),
        ("cuda", False, "bfloat16", False, None),
    ],
)
def test_choice_of_precision(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    enabled: bool,
    name: str,
    bf16: bool,
    expected: Any,
) -> None:
    monkeypatch.setattr("mask2former.engine.step.cpu_has_bf16", lambda: bf16)
    assert choose_autocast_dtype(device, enabled, name) == expected


def test_an_unknown_precision() -> None:
    with pytest.raises(ValueError, match='DTYPE must be "float16" or "bfloat16", not \'half\''):
        choose_autocast_dtype("cuda", True, "half")


def test_autocast_reaches_the_model(tmp_path: Path) -> None:
    trainer = StubTrainer(make_cfg(tmp_path))
    kinds: list[torch.dtype] = []
    trainer.model.backbone.register_forward_hook(lambda *args: kinds.append(args[-1].dtype))
    trainer._trainer = TrainStep(
        trainer.model, trainer.data_loader, trainer.optimizer, autocast_dtype=torch.bfloat16
    )
    trainer.max_iter = 2
    trainer.cfg.DATASETS.TEST = ()
    trainer.train()
    assert kinds == [torch.bfloat16] * 2
    assert trainer.model.backbone.weight.dtype == torch.float32
