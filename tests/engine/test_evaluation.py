"""Evaluation in and after whole short trainings: when, of which weights, under which names."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.engine.stub import SIZE, StubEvaluator, StubTrainer, make_cfg


def test_learns_and_reports(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    schedule = ("SOLVER.MAX_ITER", 60, "SOLVER.STEPS", (50,), "SOLVER.WARMUP_ITERS", 0)
    results = StubTrainer(make_cfg(tmp_path, "SOLVER.BASE_LR", 0.2, *schedule)).train()
    assert results["fit"]["error"] < 0.5
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert {"loss_ce", "loss_mask", "loss_mask_0", "total_loss", "lr", "time"} <= set(lines[1])
    assert [line["iteration"] for line in lines[:3]] == [1, 3, 5]
    written = json.loads((tmp_path / "inference" / "results.json").read_text())
    assert written["results"]["fit"] == results["fit"]
    assert written["weights"]["path"] == str(tmp_path / "model_final.pth")
    assert "Results on stub:" in messages.text


def test_evaluates_periodically_and_once_at_the_end(tmp_path: Path) -> None:
    calls: list[str] = []

    class Trainer(StubTrainer):
        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> dict[str, Any]:
            calls.append(os.path.basename(cfg.MODEL.WEIGHTS))
            return {}

    Trainer(make_cfg(tmp_path, "TEST.EVAL_PERIOD", 2, "SOLVER.CHECKPOINT_PERIOD", 4)).train()
    assert calls == ["", "model_0000003.pth", "", "model_0000007.pth", "model_final.pth"]


def test_several_datasets_and_a_suffix(tmp_path: Path) -> None:
    cfg = make_cfg(tmp_path, "DATASETS.TEST", ("stub", "stub_too"))
    model = StubTrainer.build_model(cfg)
    results = StubTrainer.test(cfg, model, suffix="_TTA")
    assert set(results) == {"stub", "stub_too"} and set(results["stub_too"]) == {"fit_TTA"}
    cfg.DATASETS.TEST = ("stub",)
    results = StubTrainer.test(cfg, model, suffix="_TTA")
    assert set(results) == {"fit_TTA"} and results["fit_TTA"]["n"] == SIZE
    assert (tmp_path / "inference_TTA" / "results.json").exists()


@pytest.mark.parametrize("labels", [True, False])
def test_semantic_results_are_labels_where_all_evaluators_take_them(
    tmp_path: Path, labels: bool
) -> None:
    seen: set[str] = set()

    class Evaluator(StubEvaluator):
        takes_semantic_labels = labels

        def process(self, inputs: Any, outputs: Any) -> None:
            seen.add(model.semantic_output)
            super().process(inputs, outputs)

    cfg = make_cfg(tmp_path)
    model = StubTrainer.build_model(cfg)
    model.semantic_output = "scores"
    StubTrainer.test(cfg, model, Evaluator())
    assert seen == {"labels" if labels else "scores"}
    assert model.semantic_output == "scores"


def test_averages_are_called_so_whoever_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where `test` is overridden by one that knows no suffix."""

    class Trainer(StubTrainer):
        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> dict[str, Any]:
            assert len(evaluators) == len(cfg.DATASETS.TEST)
            if len(evaluators) == 1:
                return {"fit": {"n": 1}}
            return {name: {"fit": {"n": 1}} for name in cfg.DATASETS.TEST}

    monkeypatch.setattr("mask2former.engine.evaluation._augmented", lambda cfg, model: model)
    cfg = make_cfg(tmp_path)
    assert Trainer.test_with_TTA(cfg, None) == {"fit_TTA": {"n": 1}}
    cfg.DATASETS.TEST = ("stub", "stub_too")
    expected = {"fit_TTA": {"n": 1}}
    assert Trainer.test_with_TTA(cfg, None) == {"stub": expected, "stub_too": expected}


def test_evaluation_alone_loads_the_weights(tmp_path: Path) -> None:
    trained = StubTrainer(make_cfg(tmp_path / "a"))
    expected = trained.train()
    weights = str(tmp_path / "a" / "model_final.pth")
    cfg = make_cfg(tmp_path / "b", "MODEL.WEIGHTS", weights, "DATASETS.TRAIN", "('missing',)")
    assert StubTrainer.evaluate(cfg)["fit"] == expected["fit"]
