"""Disks that are full, folders that cannot be written, files that change while they are read.

What root may do and what mounts there are differ between machines: a case that cannot be set up is
skipped and says why.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mask2former.checkpoints.storage.weights_io import load_weights, save_weights
from mask2former.data.synthetic import write_shapes
from mask2former.errors import SHOWN
from mask2former.formats.images import read_image, write_image
from mask2former.formats.json_files import read_json, write_json, write_json_list
from mask2former.formats.label_maps import write_panoptic_png
from mask2former.formats.video.reading import Frame, open_source
from mask2former.formats.video.writing import open_writer
from mask2former.painting import ContactSheet
from tests.torture.test_kill import require_whole

NOISE = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
WEIGHTS = {"w": torch.arange(200_000.0)}


def write_film(path: Path) -> None:
    writer = open_writer(path, Fraction(10))
    for i in range(30):
        writer.write(np.roll(NOISE, i), Frame(NOISE, i / 10, str(i)))
    writer.close()


def write_page(folder: Path) -> None:
    sheet = ContactSheet(folder, "page", ("photo",))
    for number in range(5):
        sheet.add(f"{number}", {"photo": NOISE})
    sheet.write("note")


# What writes, and the name of its file or folder: each needs more than a quarter of a megabyte.
WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.json": lambda path: write_json(path, list(range(100_000))),
    "list.json": lambda path: write_json_list(path, ([i] * 50 for i in range(3000))),
    "a.png": lambda path: write_image(path, NOISE),
    "a.tif": lambda path: write_image(path, NOISE),
    "map.png": lambda path: write_panoptic_png(path, NOISE.astype(np.int64) @ (1, 256, 65536)),
    "a.pth": lambda path: save_weights(WEIGHTS, path),
    "a.pkl": lambda path: save_weights(WEIGHTS, path),
    "a.safetensors": lambda path: save_weights(WEIGHTS, path),
    "a.mp4": write_film,
    "page": write_page,
    "shapes": lambda path: write_shapes(path.parent, train=30, val=30, size=128, workers=1),
}


def in_child(block: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> str:
    """Run a block in a process of its own; return "", the error that users see, or its fault."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = ""
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            prepare()
            block()
        except SHOWN as error:
            text = f"for users: {error}"
        except BaseException as error:
            text = f"fault: {type(error).__name__}: {error}"
        finally:
            os.write(writing, text.encode()[:4000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return text if os.WIFEXITED(status) else f"fault: died by signal {os.WTERMSIG(status)}"


def judge(folder: Path, name: str, error: str) -> str:
    """Return what is wrong after writing failed: another error, or parts of files."""
    if not error.startswith("for users"):
        return f"{name}: {error or 'no error'}"
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            return f"{name}: left {path}"
        if path.is_file():
            require_whole(path)
    return ""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of a quarter of a megabyte."""
    path = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk(torture, small_disk: Path) -> None:
    failures = []
    for name, write in WRITERS.items():
        error = in_child(lambda write=write, name=name: write(small_disk / name))
        failures.append(judge(small_disk, name, error))
        for path in sorted(small_disk.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    promise = "a full disk: an error that says so, no part of a file"
    torture.record("Disk", promise, len(WRITERS), list(filter(None, failures)))


def test_a_limit_of_the_length_of_files(torture, tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    failures = []
    for name, write in WRITERS.items():
        if name == "shapes":  # has small files alone
            continue
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        error = in_child(lambda write=write, name=name, f=folder: write(f / name), limit)
        failures.append(judge(folder, name, error))
    promise = "files that may not grow: an error that says so, no part of a file"
    torture.record("Disk", promise, len(WRITERS) - 1, list(filter(None, failures)))


def test_a_folder_that_cannot_be_written(torture, tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a disk that cannot be written needs the right to mount one")
    try:
        failures = [
            judge(tmp_path, name, in_child(lambda write=write, name=name: write(tmp_path / name)))
            for name, write in WRITERS.items()
        ]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    promise = "a folder that cannot be written: an error that says so"
    torture.record("Disk", promise, len(WRITERS), list(filter(None, failures)))


def test_files_that_shrink_change_or_vanish_while_they_are_read(torture, tmp_path: Path) -> None:
    """A writer that does not care about readers goes round; reading is an error or a result.

    What is mapped into memory is only replaced, as all writers of ours do it: a checkpoint that is
    cut short in place while it is read ends the process (see docs/reliability.md).
    """
    readers: dict[str, Callable[[Path], Any]] = {
        "a.json": read_json,
        "a.png": read_image,
        "a.pth": load_weights,
        "a.pkl": load_weights,
        "a.safetensors": load_weights,
        "a.mp4": lambda path: list(open_source(path)),
    }
    rounds, failures = torture.scaled(6), []
    for name, read in readers.items():
        path = tmp_path / name
        WRITERS[name](path)
        data = path.read_bytes()
        for number in range(rounds):
            error = in_child(lambda p=path, r=read, d=data, n=number: while_changing(p, d, n, r))
            if error.startswith("fault"):
                failures.append(f"{name}, {number}: {error}")
            path.write_bytes(data)
    promise = "files that change or vanish while they are read: an error or a result"
    torture.record("Disk", promise, rounds * len(readers), failures)


def while_changing(path: Path, data: bytes, number: int, read: Callable[[Path], Any]) -> None:
    done = threading.Event()
    part = path.with_suffix(".part")

    def change() -> None:
        while not done.is_set():
            kind = 0 if path.suffix in (".pth", ".safetensors") else number % 3
            if kind == 0:
                path.unlink(missing_ok=True)
                part.write_bytes(data if number % 2 else data[: len(data) // 2])
                part.replace(path)
            else:
                path.write_bytes(data[: len(data) // 2] if kind == 1 else data[::-1])
                path.write_bytes(data)

    writer = threading.Thread(target=change, daemon=True)
    writer.start()
    try:
        for _ in range(5):
            with suppress(*SHOWN):
                read(path)
    finally:
        done.set()


def test_signals_while_files_are_written_and_read(torture, tmp_path: Path) -> None:
    """A timer interrupts what the system does every few microseconds, which is no error."""

    def interrupt() -> None:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)

    failures = []
    for name, write in WRITERS.items():
        error = in_child(lambda write=write, name=name: write(tmp_path / name), interrupt)
        failures += [f"{name}: {error}"] if error else []
    torture.record("Disk", "system calls that are interrupted go on", len(WRITERS), failures)


def test_few_files_may_be_open(torture, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    def many() -> None:
        for number in range(100):
            write_json(tmp_path / "many" / f"{number}.json", [number])
            write_image(tmp_path / "many" / f"{number}.png", NOISE[:8, :8])
            save_weights({"w": torch.ones(3)}, tmp_path / "many" / f"{number}.pth")
            read_json(tmp_path / "many" / f"{number}.json")
            read_image(tmp_path / "many" / f"{number}.png")
            load_weights(tmp_path / "many" / f"{number}.pth")

    error = in_child(many, limit)
    torture.record("Disk", "64 open files are enough for hundreds", 600, [error] if error else [])


def test_workers_with_little_shared_memory(torture, tmp_path: Path) -> None:
    """Batches go through /dev/shm: where it is too small, 64 MB here, an error says so."""
    if not torture.long:
        pytest.skip("starts Python anew, which the long form does")
    script = tmp_path / "load.py"
    script.write_text(_SHARED)
    mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, str(script)]
    probe = ["unshare", "--mount", "sh", "-c", mount, "sh", "true"]
    if os.geteuid() or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("a small /dev/shm needs the right to mount one")
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    text = done.stdout + done.stderr
    failures = [] if "shm-size" in text and "20 of 6" in text else [text[-2000:]]
    promise = (
        "two workers and a /dev/shm of 64 MB: 6 MB go through, 60 MB are an error with the cure"
    )
    torture.record("Disk", promise, 2, failures)


_SHARED = """
import torch

from mask2former.data.workers import WatchedLoader, WorkerMapper


class Images(torch.utils.data.Dataset):
    def __init__(self, megabytes):
        self.mapper = WorkerMapper(self.image, 0)
        self.bytes = megabytes * 10**6

    def image(self, index):
        return torch.full((self.bytes,), index, dtype=torch.uint8)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.mapper(index)


for megabytes in (6, 60):
    loader = torch.utils.data.DataLoader(Images(megabytes), batch_size=None, num_workers=2)
    try:
        print(sum(1 for image in WatchedLoader(loader, 2)), "of", megabytes)
    except Exception as error:
        print(error)
"""
