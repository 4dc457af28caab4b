"""Scripts that are killed at any moment, also while they write, and started again.

A run is a forked process. An audit hook counts what it does to files (open for writing, rename,
remove, make a folder) and kills it at one of these moments, or up to some milliseconds later.
Afterwards every file is whole, and the next start ends with the same files as a run that was left
alone, temporary ones not among them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.tensorboard  # here, and not anew in each process
from PIL import Image

from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.data.preparation import ade20k, coco
from mask2former.data.synthetic import write_shapes
from mask2former.engine import defaults
from mask2former.predict import Demo, Predictor
from mask2former.runtime import metadata as runtime_metadata
from tests.data import fakes
from tests.engine.stub import StubTrainer, make_cfg
from tests.predict.test_demo import config
from tests.torture.exporting import Exporter

pytestmark = pytest.mark.forks
_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
_PERIOD = 3  # iterations between checkpoints


@dataclass(frozen=True)
class Script:
    """Something that is started on a folder, and started again after it was killed.

    Attributes:
        promise: what has to hold, for the table.
        start: run to the end; go on from what is there.
        prepare: put the inputs into the folder.
        grows: names of files that a second start adds to, or that say when it was.
        check: what has to hold of the final folder beside, given that at the time of the kill.
    """

    promise: str
    start: Callable[[Path], Any]
    prepare: Callable[[Path], Any] = lambda folder: None
    grows: tuple[str, ...] = field(default=())
    check: Callable[[Path, Path], None] = lambda before, after: None


def train(folder: Path) -> None:
    cfg = make_cfg(folder, "SEED", 7, "SOLVER.CHECKPOINT_PERIOD", _PERIOD, "TEST.EVAL_PERIOD", 4)
    defaults.setup(cfg, argparse.Namespace())
    trainer = StubTrainer(cfg)
    trainer.resume_or_load(resume=True)
    (folder / "start.txt").write_text(str(trainer.start_iter))
    trainer.train()


def lost_at_most_an_interval(before: Path, after: Path) -> None:
    """The restart begins behind the checkpoint that was the last one."""
    saved = [int(path.stem.split("_")[1]) for path in before.glob("model_0*.pth")]
    saved += [9] * (before / "model_final.pth").exists()
    start = int((after / "start.txt").read_text())
    tagged = 0
    if (before / "last_checkpoint").exists():
        tagged = load_iteration(before / (before / "last_checkpoint").read_text()) + 1
    assert start == tagged >= max(saved, default=0) - _PERIOD
    lines = [json.loads(line) for line in (after / "metrics.json").read_text().splitlines()]
    assert lines[-1]["iteration"] >= 9


def load_iteration(path: Path) -> int:
    return load_weights(path)[1]["iteration"]


def draw(demo: Demo, folder: Path) -> None:
    photos = sorted(str(path) for path in (folder / "photos").iterdir())
    demo.draw_files(photos, folder / "out", note="torture", save_json=True)


def write_photos(folder: Path) -> None:
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")


def prepare_ade20k(folder: Path) -> None:
    for split in ("train", "val"):
        for prepare in (ade20k.prepare_semantic, ade20k.prepare_panoptic, ade20k.prepare_instances):
            prepare(folder, split)


def prepare_others(folder: Path) -> None:
    for split in ("train", "val"):
        coco.prepare_semantic(folder, split)
        coco.prepare_mapillary_instances(folder, split)


def fake_others(folder: Path) -> None:
    fakes.coco_panoptic(folder)
    fakes.mapillary_vistas(folder)


def draw_shapes(folder: Path) -> None:
    write_shapes(folder, seed=1, train=2, val=2, size=64, workers=1)


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo(Predictor(config("panoptic"), array_format="RGB"), score_threshold=0.0)


@pytest.mark.parametrize(
    "name", ["training", "demo", "ADE20K", "COCO and Mapillary", "shapes", "export"]
)
def test_killed_and_started_again(name: str, torture, tmp_path: Path, demo: Demo) -> None:
    script = {
        "training": Script(
            "train_net: nothing is lost but the interval since the last checkpoint",
            train,
            grows=("log.txt", "metrics.json", "run.json", "start.txt", "events.out"),
            check=lost_at_most_an_interval,
        ),
        "demo": Script("demo: pictures, page and results", partial(draw, demo), write_photos),
        "ADE20K": Script("preparation of ADE20K", prepare_ade20k, fakes.ade20k),
        "COCO and Mapillary": Script(
            "preparation of COCO and Mapillary Vistas", prepare_others, fake_others
        ),
        "shapes": Script("the shapes dataset", draw_shapes),
    }.get(name) or Script("export: an ONNX file", Exporter(config("panoptic")))
    kills = 40 if torture.long else 4
    rng = random.Random(f"{torture.seed} {name}")
    reference = fresh(tmp_path / "reference", script)
    moments = run(script, reference, None)
    assert moments > 5, f"{name} touches {moments} files alone"
    failures = []
    for _ in range(kills):
        folder = fresh(tmp_path / "killed", script)
        # The last moments, of results and tags, as often as all others.
        at = rng.randrange(moments) if rng.random() < 0.7 else moments - 1 - rng.randrange(4)
        delay = rng.choice((0, 0, rng.random() * 0.003))
        try:
            killed_and_started_again(script, folder, reference, at, delay, tmp_path / "before")
        except AssertionError as error:
            failures.append(f"killed at {at} of {moments}, {delay:.4f} s later: {error}")
        shutil.rmtree(folder)
    torture.record("Kill", script.promise, kills, failures)


def killed_and_started_again(
    script: Script, folder: Path, reference: Path, at: int, delay: float, before: Path
) -> None:
    run(script, folder, at, delay)
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(folder, before)
    for path in visible(folder):
        require_whole(folder / path)
    run(script, folder, None)
    script.check(before, folder)
    expected = {p for p in visible(reference) if not p.name.startswith(script.grows or ("\0",))}
    found = {p for p in visible(folder) if not p.name.startswith(script.grows or ("\0",))}
    assert found == expected, f"files differ: {sorted(found ^ expected)}"
    left = list(folder.rglob(".*"))
    assert not left, f"left behind: {left}"
    for path in expected:
        assert same(folder / path, reference / path), f"{path} differs"


def fresh(folder: Path, script: Script) -> Path:
    folder.mkdir()
    script.prepare(folder)
    return folder


def run(script: Script, folder: Path, kill_at: int | None, delay: float = 0) -> int:
    """Run a script in a forked process; return how often it touched files of the folder.

    Args:
        kill_at: the number of the touch at which the process is killed; None lets it end.
        delay: seconds that it has from then on.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            touches = count_touches(folder, kill_at, delay)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            script.start(folder)
            os.write(writing, str(len(touches)).encode())
        except BaseException as error:
            os.write(writing, f"failed: {error!r}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert kill_at is not None or text.isdecimal(), f"the script {text or 'died'}"
    assert not text.startswith("failed"), text
    return int(text or 0)


def count_touches(folder: Path, kill_at: int | None, delay: float) -> list[str]:
    """Count what this process does to files of a folder from now on, and kill it in time."""
    touches: list[str] = []
    root = str(folder)

    def note(event: str, arguments: tuple) -> None:
        is_writing = event == "open" and (
            (isinstance(arguments[1], str) and bool(set(arguments[1]) & set("wax+")))
            or (isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)))
        )
        if not is_writing and event not in _EVENTS:
            return
        path = "" if isinstance(arguments[0], int) else os.fsdecode(arguments[0])
        if not path.startswith(root):
            return
        touches.append(event)
        if len(touches) - 1 == kill_at:
            if not delay:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.setitimer(signal.ITIMER_REAL, delay)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process as SIGKILL does
    sys.addaudithook(note)
    return touches


def visible(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, relative to it, that have their name for good."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            yield path.relative_to(folder)


def require_whole(path: Path) -> None:
    try:
        if path.suffix == ".json" and path.name != "metrics.json":
            json.loads(path.read_text())
        elif path.suffix == ".pth":
            load_weights(path)
        elif path.suffix == ".onnx":
            runtime_metadata.read(path)
        elif path.suffix in (".png", ".jpg"):
            Image.open(path).load()
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
        elif path.name in ("last_checkpoint", "config.yaml"):
            assert path.read_text()
    except Exception as error:
        raise AssertionError(f"{path} is half written: {error}") from error


def same(path: Path, other: Path) -> bool:
    """Compare the bytes of files, or what they hold where they name their folder or time."""
    if path.suffix == ".pth":
        ours, theirs = load_weights(path)[0], load_weights(other)[0]
        return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    data, expected = path.read_bytes(), other.read_bytes()
    for part in (b"killed", b"reference"):
        data, expected = data.replace(part, b"X"), expected.replace(part, b"X")
    return data == expected
