"""A step that fails by its random numbers is kept, repeated, and its first bad tensor named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mask2former.engine.replay.command import main
from mask2former.engine.replay.search import FirstNotFinite
from mask2former.modeling.meta_arch.base import _current_iteration
from tests.engine.stub import StubTrainer, make_cfg


class Log(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.log()


@META_ARCH_REGISTRY.register()
class FragileModel(nn.Module):
    """Takes the logarithm of a random number that is below 0 in about one of ten steps."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.log = Log()
        self.draws: list[float] = []

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        x = torch.tensor([[item["x"]] for item in batch])
        if not self.training:
            return [{"error": 0.0}]
        self.draws.append(torch.rand(()).item() - 0.1)
        return {"loss_log": self.log(0 * self.backbone(x) + self.draws[-1]).mean()}


@META_ARCH_REGISTRY.register()
class AgeingModel(FragileModel):
    """Fails by the number of the iteration, which seeds of points are made of."""

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        if not self.training:
            return super().forward(batch)
        x = torch.tensor([[item["x"]] for item in batch])
        return {"loss_log": self.log(0 * self.backbone(x) + 2.5 - _current_iteration()).mean()}


@pytest.fixture
def failed(tmp_path: Path) -> tuple[Path, StubTrainer]:
    """The OUTPUT_DIR of a training that has failed, and its trainer."""
    torch.manual_seed(0)
    trainer = StubTrainer(
        make_cfg(tmp_path, "MODEL.META_ARCHITECTURE", "FragileModel", "SOLVER.MAX_ITER", 500)
    )
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    folder = tmp_path / "failure"
    assert f"python -m mask2former.engine.replay {folder} names the first" in str(error.value)
    return tmp_path, trainer


def test_the_first_tensor_is_named(
    failed: tuple[Path, StubTrainer], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trainer = failed
    iteration = len(trainer.model.draws) - 1
    assert iteration > 0 and trainer.model.draws[-1] < 0
    torch.manual_seed(12345)  # whatever happened meanwhile
    main([str(folder)])  # the folder above does as well
    first = capsys.readouterr().out
    lines = first.splitlines()
    assert lines[0].startswith(f"iteration {iteration}, process 0: the loss is not finite")
    assert "repeated on cpu in float32" in lines
    assert "losses that are not finite: loss_log nan" in lines
    name = "first tensor that is not finite, after 2 modules: output of log (Log): float32 (2, 1), "
    assert name + "2 NaN and 0 infinite of 2, else no finite number" in lines
    value = f"{trainer.model.draws[-1]:.4g}"
    assert lines[-1] == f"its inputs: float32 (2, 1), {value} to {value}"
    main([str(folder / "failure")])
    assert capsys.readouterr().out == first


def test_the_iteration_is_that_of_the_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FloatingPointError):
        StubTrainer(make_cfg(tmp_path, "MODEL.META_ARCHITECTURE", "AgeingModel")).train()
    main([str(tmp_path)])
    shown = capsys.readouterr().out
    assert shown.startswith("iteration 3, process 0") and "output of log (Log)" in shown


def test_weights_and_batch_come_first(
    failed: tuple[Path, StubTrainer], capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    path = failed[0] / "failure" / "weights.safetensors"
    weights = load_file(path)
    weights["backbone.bias"].fill_(torch.inf)
    save_file(weights, path)
    main([str(failed[0])])
    assert (
        "the weights, ['backbone.bias']: float32 (1,), 0 NaN and 1 inf" in capsys.readouterr().out
    )


def _item(image: Any) -> dict[str, Any]:
    """Return a packed item of a batch."""
    return {"mapping": [["image", image]]}


def test_what_cannot_be_repeated(
    failed: tuple[Path, StubTrainer], capsys: pytest.CaptureFixture[str]
) -> None:
    path = failed[0] / "failure" / "failure.json"
    facts = json.loads(path.read_text())
    for change, message in (
        ({"format": 2, "versions": {"mask2former": "9.1"}}, "expected format 1, got 2; replay it "),
        ({"dtype": "load"}, "expected a type of torch as dtype, got 'load'"),
        ({"iteration": "three"}, "failure.json: iteration: expected a finite number, got 'three'"),
        ({"batch": {"tensor": "77"}}, "failure.json: expected a value as it was saved"),
        ({"batch": {"list": [_item("text")]}}, "expected an image in the batch"),
        ({"batch": {"list": [_item({"list": []})]}}, "expected an image in the batch"),
        ({"random_state": 3}, "states of the random generators are damaged"),
        ({"random_state": {"mapping": [["python", "x"]]}}, "random generators are damaged"),
    ):
        path.write_text(json.dumps(facts | change))
        with pytest.raises(SystemExit) as ended:
            main([str(failed[0])])
        assert ended.value.code == 1
        assert message in capsys.readouterr().err
    path.write_text(json.dumps(facts))
    weights = path.with_name("weights.safetensors")
    weights.write_bytes(path.with_name("tensors.safetensors").read_bytes())
    with pytest.raises(SystemExit):
        main([str(failed[0])])
    assert "its weights are of another model than its config" in capsys.readouterr().err
    path.unlink()
    with pytest.raises(SystemExit):
        main([str(failed[0])])
    assert "holds no failed step: expected failure.json in it" in capsys.readouterr().err


def test_a_full_disk_hides_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("mask2former.engine.trainer.save_failure", fail)
    torch.manual_seed(0)
    cfg = make_cfg(tmp_path, "MODEL.META_ARCHITECTURE", "FragileModel", "SOLVER.MAX_ITER", 500)
    with pytest.raises(FloatingPointError, match="loss_log is nan.*may help$"):
        StubTrainer(cfg).train()
    assert "The failed step is not kept: No space left" in messages.text


def test_what_is_made_between_modules() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Identity(), nn.Identity()

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x) / 0)

    model = Model()
    watch = FirstNotFinite(model)
    with watch.watching():
        model(torch.ones(3), mask=torch.full((3,), -torch.inf))
    assert watch.found == (
        "input[0] of second (Identity), made after first (Identity): "
        "float32 (3,), 0 NaN and 3 infinite of 3, else no finite number"
    )
    assert not model._forward_hooks and not model.first._forward_pre_hooks
