"""The moving average of the weights: its formula, its place in a step, checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mask2former.checkpoints.checkpointer import read_for_use
from mask2former.engine.selection.average import WeightAverage
from tests.engine.stub import SignalledTrainer, StubTrainer, make_cfg

EMA = ("SOLVER.EMA.ENABLED", True, "SOLVER.EMA.DECAY", 0.9, "SOLVER.EMA.WARMUP", 3.0)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("statistic", torch.zeros(1))
        self.register_buffer("index", torch.zeros(1, dtype=torch.int64))


def test_the_formula_by_hand() -> None:
    """Decays t / (t + 1), at most 0.6: 0, 1/2, 0.6 (for 2/3), 0.6."""
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    average = WeightAverage(model, optimizer, decay=0.6, warmup=1.0)
    expected = None
    for step, decay in enumerate((0.0, 0.5, 0.6, 0.6), 1):
        model.weight.grad = torch.tensor([-1.0, -float(step)])
        model.statistic.fill_(10 * step)
        model.index.fill_(7 * step)
        optimizer.step()
        new = torch.cat([model.weight.detach(), model.statistic])
        expected = new.clone() if expected is None else decay * expected + (1 - decay) * new
        got = average.model
        torch.testing.assert_close(torch.cat([got.weight, got.statistic]), expected)
        assert got.index == 7 * step  # whole numbers are not averaged
        assert average.updates == step
    assert not got.weight.requires_grad and not got.training and model.training


def test_without_warmup_the_decay_is_the_same_from_the_start() -> None:
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    average = WeightAverage(model, optimizer, decay=0.75, warmup=0.0)
    for _ in range(2):
        model.weight.grad = torch.tensor([-4.0, 0.0])
        optimizer.step()
    torch.testing.assert_close(average.model.weight, torch.tensor([0.75 * 4 + 0.25 * 8, 0.0]))


def test_before_the_first_step_it_is_the_model() -> None:
    model = Small()
    average = WeightAverage(model, torch.optim.SGD(model.parameters(), 1.0), 0.9, 10.0)
    model.weight.data.fill_(3.0)  # as loading does
    assert average.model.weight.tolist() == [3, 3]


@pytest.mark.parametrize(("decay", "warmup"), [(1.0, 1.0), (-0.1, 1.0), (0.9, -1.0)])
def test_numbers_out_of_range(decay: float, warmup: float) -> None:
    model = Small()
    with pytest.raises(ValueError, match=r"SOLVER\.EMA: DECAY must be at least 0 and below 1"):
        WeightAverage(model, torch.optim.SGD(model.parameters(), 1.0), decay, warmup)


def test_a_step_that_is_left_out_does_not_count(tmp_path: Path) -> None:
    """A GradScaler leaves out steps whose gradients are not finite."""
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    average = WeightAverage(model, optimizer, 0.9, 10.0)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model.weight.sum() * torch.inf).backward()
    scaler.step(optimizer)
    assert average.updates == 0


def test_resumed_exactly_and_saved_beside_the_weights(tmp_path: Path) -> None:
    cfg = make_cfg(tmp_path / "a", *EMA, "SEED", 3)
    straight = StubTrainer(make_cfg(tmp_path / "b", *EMA, "SEED", 3))
    stopped = SignalledTrainer(cfg)
    straight.model.load_state_dict(stopped.model.state_dict())
    straight.data_loader.dataset.sampler._seed = stopped.data_loader.dataset.sampler._seed
    straight.train()
    with pytest.raises(SystemExit):
        stopped.train()
    resumed = StubTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.average.updates == 5
    resumed.train()
    saved = torch.load(tmp_path / "a" / "model_final.pth")  # of plain tensors, as torch has them
    assert saved["ema"]["updates"] == 10
    for name, value in straight.average.model.state_dict().items():
        assert torch.equal(saved["ema"]["weights"][name], value), name
    difference = saved["ema"]["weights"]["backbone.weight"] - saved["model"]["backbone.weight"]
    assert difference.abs() > 1e-4


def test_a_checkpoint_without_average_starts_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        SignalledTrainer(make_cfg(tmp_path)).train()
    resumed = StubTrainer(make_cfg(tmp_path, *EMA))
    resumed.resume_or_load(resume=True)
    assert torch.equal(resumed.average.model.backbone.weight, resumed.model.backbone.weight)
    resumed.train()
    assert resumed.average.updates == 5


@pytest.mark.parametrize("use", ["instead", "beside", "never"])
def test_what_is_evaluated_and_used_for_prediction(tmp_path: Path, use: str) -> None:
    trainer = StubTrainer(make_cfg(tmp_path, *EMA, "TEST.EMA", use))
    seen: list[Any] = []

    class Watched(StubTrainer):
        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> dict[str, Any]:
            seen.append(model.backbone.weight.item())
            return super().test(cfg, model, evaluators)

    trainer.test = Watched.test
    results = trainer.train()
    weights = trainer.model.backbone.weight.item()
    average = trainer.average.model.backbone.weight.item()
    expected = {"instead": [average], "beside": [weights, average], "never": [weights]}[use]
    assert seen == expected and weights != average
    assert set(results) == ({"fit", "fit_EMA"} if use == "beside" else {"fit"})
    if use == "beside":
        assert results["fit"]["error"] != results["fit_EMA"]["error"]
        assert (tmp_path / "ema" / "inference" / "results.json").is_file()
    cfg = make_cfg(tmp_path, *EMA, "TEST.EMA", use)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    used = read_for_use(cfg)["model"]["backbone.weight"].item()
    assert used == (average if use == "instead" else weights)
    seen.clear()
    again = Watched.evaluate(cfg)
    assert seen == expected and set(again) == set(results)
    assert again["fit"]["error"] == pytest.approx(results["fit"]["error"])


def test_an_unknown_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"TEST\.EMA must be one of instead, beside, never, not"):
        StubTrainer(make_cfg(tmp_path, "TEST.EMA", "sometimes"))
