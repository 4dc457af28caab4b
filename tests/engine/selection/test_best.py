"""The best weights of a run, early stopping, and metrics that there are not."""

import json
import math
import os
import signal
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from mask2former.errors import UserError
from tests.engine.stub import StubTrainer, make_cfg

BEST = ("TEST.EVAL_PERIOD", 2, "TEST.BEST.METRIC", "fit/score")


class ScriptedTrainer(StubTrainer):
    """Scores what a list says, one number an evaluation, whatever the model has learnt."""

    scores: list[float]

    @classmethod
    def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> dict[str, Any]:
        cls.evaluated.append(model.backbone.weight.item())
        return {"fit": {"score": cls.scores[len(cls.evaluated) - 1], "score-one": 0.0}}

    stops_in: int | None = None

    def run_step(self) -> None:
        if self.iter == self.stops_in:
            os.kill(os.getpid(), signal.SIGTERM)
        super().run_step()


def train(
    folder: Path,
    scores: list[float],
    *opts: Any,
    resume: bool = False,
    stops_in: int | None = None,
) -> ScriptedTrainer:
    members = {"scores": scores, "evaluated": [], "stops_in": stops_in}
    trainer = type("Scripted", (ScriptedTrainer,), members)(make_cfg(folder, *BEST, *opts))
    trainer.resume_or_load(resume=resume)
    with suppress(SystemExit) if stops_in is not None else nullcontext():
        trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("mode", "scores", "expected"),
    [
        ("max", [1.0, 5.0, 3.0, 5.0, 2.0], 1),
        ("min", [4.0, 5.0, math.nan, 0.5, 2.0], 3),
        ("max", [math.nan, 5.0, 6.0, 7.0, 8.0], 4),
    ],
)
def test_keeps_the_weights_of_the_best_evaluation(
    tmp_path: Path, mode: str, scores: list[float], expected: int
) -> None:
    trainer = train(tmp_path, scores, "TEST.BEST.MODE", mode)
    best = torch.load(tmp_path / "model_best.pth")
    assert best["model"]["backbone.weight"].item() == trainer.evaluated[expected]
    iteration = 2 * expected + 1
    assert best["best"] == {
        "metric": "fit/score",
        "iteration": iteration,
        "value": scores[expected],
    }
    assert set(best) == {"model", "best"}  # the state of the training is not in it
    record = json.loads((tmp_path / "best.json").read_text())
    assert record["best"] == {"iteration": iteration, "value": scores[expected]}
    assert [s["iteration"] for s in record["scores"]] == [1, 3, 5, 7, 9]
    assert trainer.checkpointer.get_checkpoint_file().endswith("model_final.pth")
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["best/fit/score"] == scores[expected]


def test_ends_when_it_gets_no_better(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    trainer = train(tmp_path, [1, 3, 2, 3, 9], "TEST.BEST.PATIENCE", 2)
    assert len(trainer.evaluated) == 4 and trainer.iter == 7
    assert "Training ends after iteration 7: fit/score was best at iteration 3" in messages.text
    last = torch.load(tmp_path / "model_final.pth")
    assert last["iteration"] == 7
    assert last["model"]["backbone.weight"].item() == trainer.evaluated[-1]
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["fit/score"] == 3
    again = train(tmp_path, [9], "TEST.BEST.PATIENCE", 2, resume=True)
    assert not again.evaluated and again.iter == 8
    assert "Training had ended: fit/score was best at iteration 3" in messages.text
    longer = train(tmp_path, [9], "TEST.BEST.PATIENCE", 3, resume=True)
    assert len(longer.evaluated) == 1 and longer.iter == 10
    assert torch.load(tmp_path / "model_best.pth")["best"]["iteration"] == 9


def test_an_evaluation_that_a_signal_prevented_is_made_up_for(tmp_path: Path) -> None:
    first = train(tmp_path, [5, 4], stops_in=5)
    assert first.iter == 5 and len(first.evaluated) == 2
    second = train(tmp_path, [6, 7, 1], "SOLVER.LOG_PERIOD", 1, resume=True)
    assert second.iter == 10 and len(second.evaluated) == 3
    record = json.loads((tmp_path / "best.json").read_text())
    assert [(s["iteration"], s["value"]) for s in record["scores"]] == [
        (1, 5), (3, 4), (5, 6), (7, 7), (9, 1),
    ]  # fmt: skip
    assert second.evaluated[0] == first.model.backbone.weight.item()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    scores = {line["iteration"]: line["fit/score"] for line in lines if "fit/score" in line}
    assert scores[5] == 6 and scores[7] == 7
    again = train(tmp_path, [1], resume=True)  # of a run that was complete
    assert len(again.evaluated) == 1
    assert json.loads((tmp_path / "best.json").read_text()) == record


def test_patience_may_end_with_an_evaluation_that_is_made_up_for(
    tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, [5, 4], "TEST.BEST.PATIENCE", 2, stops_in=5)
    second = train(tmp_path, [3], "TEST.BEST.PATIENCE", 2, resume=True)
    assert len(second.evaluated) == 1
    assert "Training ends after iteration 5: fit/score was best at iteration 1" in messages.text
    assert torch.load(tmp_path / "model_final.pth")["iteration"] == 5
    train(tmp_path, [], "TEST.BEST.PATIENCE", 2, resume=True)
    assert "Training had ended: fit/score was best at iteration 1" in messages.text


def test_the_best_weights_outlast_a_run_that_is_put_back(tmp_path: Path) -> None:
    """The second part, from an earlier checkpoint, is not as good as what was lost."""
    first = train(tmp_path, [5, 9], stops_in=4)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    train(tmp_path, [8, 7, 6, 5], resume=True)
    best = torch.load(tmp_path / "model_best.pth")
    assert best["model"]["backbone.weight"].item() == first.evaluated[1]
    record = json.loads((tmp_path / "best.json").read_text())
    assert (
        record["best"]
        == {"iteration": 3, "value": 9}
        == {k: v for k, v in best["best"].items() if k != "metric"}
    )
    assert [s["value"] for s in record["scores"]] == [5, 8, 7, 6, 5]
    (tmp_path / "model_best.pth").unlink()
    train(tmp_path, [2], resume=True)
    assert torch.load(tmp_path / "model_best.pth")["best"]["value"] == 2


def test_patience_that_ends_with_the_run_is_no_error(tmp_path: Path) -> None:
    trainer = train(tmp_path, [5, 4, 3, 2, 1], "TEST.BEST.PATIENCE", 4)
    assert trainer.iter == 10 and len(trainer.evaluated) == 5


def test_a_new_run_does_not_know_scores_of_an_old_one(tmp_path: Path) -> None:
    train(tmp_path, [9, 9, 9, 9, 9])
    trainer = train(tmp_path, [1, 2, 3, 4, 5])
    weight = torch.load(tmp_path / "model_best.pth")["model"]["backbone.weight"].item()
    assert weight == trainer.evaluated[-1]


def test_an_unknown_metric_names_those_there_are_and_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'fit/mAP', which .* does not give; there are fit/score,"):
        train(tmp_path, [1.0], "TEST.BEST.METRIC", "fit/mAP")
    assert torch.load(tmp_path / "model_0000001.pth")["iteration"] == 1


def test_the_average_is_kept_where_the_metric_is_of_it(tmp_path: Path) -> None:
    for use, metric in (("instead", "fit/score"), ("beside", "fit_EMA/score")):
        folder = tmp_path / use
        opts = ("SOLVER.EMA.ENABLED", True, "TEST.EMA", use, "TEST.BEST.METRIC", metric)
        trainer = train(folder, [float(i) for i in range(10)], *opts)
        weight = torch.load(folder / "model_best.pth")["model"]["backbone.weight"].item()
        assert weight == trainer.average.model.backbone.weight.item()
        assert weight != trainer.model.backbone.weight.item()


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("TEST.BEST.MODE", "best"), 'MODE must be "max" or "min"'),
        (("TEST.BEST.PATIENCE", -1), "PATIENCE at least 0"),
        (("TEST.BEST.PATIENCE", 2, "TEST.EVAL_PERIOD", 0), "TEST.EVAL_PERIOD is 0: set after how"),
    ],
)
def test_bad_settings_end_before_training(tmp_path: Path, opts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path, [1.0], *opts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": ...}, "missing: metric"),
        ({"scores": 3}, "scores: expected a list"),
        ({"scores": [{"value": 1}]}, "missing: iteration"),
        ({"scores": [{"iteration": "x", "value": 1}]}, "iteration: expected a finite number"),
        ({"scores": [{"iteration": 1, "value": [1]}]}, "value: expected a finite number"),
        ({"best": []}, "expected an object"),
    ],
)
def test_a_damaged_record_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    train(tmp_path, [1, 2, 3, 4, 5])
    path = tmp_path / "best.json"
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}))
    with pytest.raises(UserError, match=rf"best\.json: .*{message}.*delete it"):
        train(tmp_path, [6], "SOLVER.MAX_ITER", 12, resume=True)
