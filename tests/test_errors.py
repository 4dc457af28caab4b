"""Errors of users are one line of a script, all others keep their traceback."""

import ast
import runpy
import signal
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

import mask2former
from mask2former.errors import (
    GOES_ON,
    MissingPackageError,
    UnsupportedError,
    UserError,
    interruptible,
    message,
    one_line,
)

ROOT = Path(__file__).parents[1]
# What code passes wrongly, not users: shapes of tensors, arguments that exclude each other.
PROGRAMMING = {
    "checkpoints/bridges/check.py",
    "data/check/advice.py",
    "data/given_masks/mapper.py",
    "data/stream.py",
    "evaluation/instance/coco_ap.py",
    "evaluation/video/evaluator.py",
    "export/parity.py",
    "formats/rle.py",
    "integrations/fiftyone.py",
    "layers/position.py",
    "modeling/backbone/stages.py",
    "modeling/mask_classifier/given_masks.py",
    "modeling/meta_arch/base.py",
    "modeling/meta_arch/eomt.py",
    "modeling/pixel_decoder/msdeformattn.py",
    "modeling/postprocessing/tta.py",
    "modeling/transformer_decoder/masked.py",
    "ops/deform_attn/dispatch.py",
    "painting.py",
    "predict/demo.py",
    "predict/image.py",
    "predict/masks.py",
    "tracks/linking.py",
}


class Damaged(Dataset):
    """A dataset whose second file is damaged."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index:
            raise UserError("b.jpg: truncated\nat its end")
        return index


def test_kinds() -> None:
    assert mask2former.UserError is UserError and issubclass(UserError, ValueError)
    for kind, base in [(MissingPackageError, ImportError), (UnsupportedError, NotImplementedError)]:
        assert issubclass(kind, UserError) and issubclass(kind, base)


@pytest.mark.parametrize("error", [UserError("a: b"), FileNotFoundError("a: b")])
def test_one_line(error: Exception, capsys, monkeypatch) -> None:
    monkeypatch.delenv("MASK2FORMER_DEBUG", raising=False)
    with pytest.raises(SystemExit, match="^3$"), one_line("tool.py", 3):
        raise error
    assert capsys.readouterr().err == "tool.py: error: a: b\n"
    monkeypatch.setenv("MASK2FORMER_DEBUG", "1")
    with pytest.raises(type(error)), one_line("tool.py"):
        raise error


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_script_when_it_has_cleaned_up(number: int, status: int, capsys) -> None:
    before, cleaned = signal.getsignal(signal.SIGTERM), []
    # A shell lets what it starts in the background ignore it.
    of_interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended, one_line("tool.py", interrupted=GOES_ON):
            try:
                signal.raise_signal(number)
            finally:
                cleaned.append(number)
    finally:
        signal.signal(signal.SIGINT, of_interrupts)
    assert ended.value.code == status and cleaned == [number]
    assert signal.getsignal(signal.SIGTERM) == before
    said = f"\ntool.py: {GOES_ON}\n" if number == signal.SIGINT else ""
    assert capsys.readouterr().err == said


def test_a_library_may_lose_the_exit() -> None:
    with pytest.raises(SystemExit, match="^143$"), interruptible("tool.py"):
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit:
            raise TypeError("__array__() got an unexpected keyword argument 'copy'") from None


def test_another_handler_of_signals_stays() -> None:
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match="^130$"), interruptible("tool.py"):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError, RuntimeError, ImportError])
def test_faults_keep_their_traceback(kind: type[Exception]) -> None:
    with pytest.raises(kind), one_line("tool.py"):
        raise kind("a fault")


def test_message_of_a_loader_worker() -> None:
    with pytest.raises(UserError) as caught:
        list(DataLoader(Damaged(), num_workers=1))
    assert message(caught.value) == "b.jpg: truncated\nat its end"


def test_what_users_cause_is_a_user_error() -> None:
    """All that the package raises, but for the few named above: a new one has to be thought of."""
    found = set()
    for path in sorted((ROOT / "mask2former").rglob("*.py")):
        raised = [n.exc for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Raise)]
        if any(isinstance(e, ast.Call) and ast.unparse(e.func) == "ValueError" for e in raised):
            found.add(path.relative_to(ROOT / "mask2former").as_posix())
    assert {name for name in found if not name.startswith("published/")} == PROGRAMMING


@pytest.mark.parametrize(
    ("script", "function", "arguments"),
    [
        ("tools/convert-torchvision-to-d2.py", "convert.backbone_to_ours", ["a", "b"]),
        ("tools/convert-pretrained-swin-model-to-d2.py", "convert.backbone_to_ours", ["a", "b"]),
    ],
)
def test_scripts_show_faults(script, function, arguments, monkeypatch, capsys) -> None:
    def fail(*_: object) -> None:
        raise kind("a reason")

    monkeypatch.setattr(f"mask2former.checkpoints.bridges.{function}", fail)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    kind: type[Exception] = ValueError
    with pytest.raises(ValueError, match="a reason"):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    kind = UserError
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert capsys.readouterr().err == f"{Path(script).name}: error: a reason\n"
