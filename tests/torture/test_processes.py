"""Several processes: the same training as one, and an end for all when one of them dies."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from detectron2.structures import Instances

from mask2former.engine.distributed import launch, wrap_model
from tests.engine.distributed.two_processes import tiny_model

pytestmark = pytest.mark.forks

TIMEOUT = 60  # seconds after the death of one in which all others have to end
IMAGES, TARGETS = 6, 2


def images(seed: int) -> list[dict[str, Any]]:
    """Six images of two rectangles each, so that every share has as many targets an image."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for index in range(IMAGES):
        masks = torch.zeros(TARGETS, 64, 64, dtype=torch.bool)
        for mask in masks:
            top, left = torch.randint(0, 40, (2,), generator=generator).tolist()
            mask[top : top + 20, left : left + 24] = True
        classes = torch.randint(0, 5, (TARGETS,), generator=generator)
        image = torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)
        targets = Instances((64, 64), gt_classes=classes, gt_masks=masks)
        batch.append({"image": image, "instances": targets, "file_name": f"{index}.jpg"})
        batch[-1]["image_id"] = index
    return batch


def start(rank: int, world: int, folder: Path, work: Callable[[], None]) -> int:
    """Fork a process of a group; it exits with 0, with 3 after an error, which a file has."""
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        torch.set_num_threads(1)
        store = f"file://{folder}/store"
        limit = timedelta(seconds=TIMEOUT)
        dist.init_process_group("gloo", store, rank=rank, world_size=world, timeout=limit)
        work()
        code = 0
    except BaseException as error:
        (folder / f"error{rank}").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def train(steps: int, seed: int, path: Path | None = None) -> None:
    """Train in a process of its own.

    Its ReLUs are smooth: at one whose sum is 0 up to rounding, as happens with seed 13, a gradient
    would depend on how many images pass together.
    """
    torch.nn.functional.relu_ = torch.nn.functional.silu
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = wrap_model(tiny_model().train())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(steps):
        losses = model(images(seed + step)[rank::world])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    if path is not None and rank == 0:
        torch.save(getattr(model, "module", model).state_dict(), path)


def test_processes_train_to_the_same_weights(torture, tmp_path: Path) -> None:
    seeds = [torture.seed + i for i in range(3 if torture.long else 1)]
    failures = []
    for seed in seeds:
        weights = []
        for world in (1, 2, 3):
            folder = tmp_path / f"{seed} {world}"
            folder.mkdir()
            work = lambda f=folder, s=seed: train(2, s, f / "weights.pth")  # noqa: E731
            children = [start(rank, world, folder, work) for rank in range(world)]
            codes = [os.waitpid(child, 0)[1] for child in children]
            errors = [path.read_text() for path in folder.glob("error*")]
            assert codes == [0] * world, errors
            weights.append(torch.load(folder / "weights.pth"))
        for world, other in zip((2, 3), weights[1:]):
            difference = max(
                float((weights[0][k] - other[k]).abs().max())
                for k in weights[0]
                if weights[0][k].is_floating_point()
            )
            if difference > 1e-5:
                failures.append(f"{world} processes, seed {seed}: weights differ by {difference}")
    promise = "1, 2 and 3 processes train to the same weights (1e-5)"
    torture.record("Processes", promise, 3 * len(seeds), failures)


@pytest.mark.parametrize("world", [2, 3])
def test_all_end_when_one_dies(torture, tmp_path: Path, world: int) -> None:
    """As torchrun starts them, but without it, which would end the others itself."""
    dying = torture.seed % world

    def main(args: argparse.Namespace) -> None:
        (tmp_path / f"pid{dist.get_rank()}").write_text(str(os.getpid()))
        if dist.get_rank() == dying:
            train(1, 0)
            os.kill(os.getpid(), signal.SIGKILL)
        train(50, 0)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    children = [start_launched(rank, world, port, tmp_path, main) for rank in range(world)]
    codes = ended_within(children, 2 * TIMEOUT)
    failures = [f"process {rank} hangs" for rank, code in enumerate(codes) if code is None]
    pid = (tmp_path / f"pid{dying}").read_text()
    for rank in set(range(world)) - {dying}:
        path = tmp_path / f"error{rank}"
        error = path.read_text() if path.exists() else "no error"
        # Others that have ended by then, for the same reason, are named beside it.
        other = r"\d \(pid \d+\)"
        named = rf"({other}, )*{dying} \(pid {pid}\)(, {other})*"
        expected = rf"UserError: process {named} of {world} on .* has ended"
        if codes[rank] == 0 or not re.match(expected, error):
            failures.append(f"process {rank} ended with {codes[rank]}: {error}")
    promise = f"one of {world} processes dies: the others say in {TIMEOUT} s which, and end"
    torture.record("Processes", promise, world, failures)


def start_launched(
    rank: int, world: int, port: int, folder: Path, main: Callable[[argparse.Namespace], None]
) -> int:
    """Fork a process that calls `launch` in an environment of torchrun; else as `start`."""
    child = os.fork()
    if child:
        return child
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    code = 3
    try:
        torch.set_num_threads(1)
        os.environ |= dict(zip(names, map(str, (rank, rank, world, "127.0.0.1", port))))
        launch(main, argparse.Namespace(), device="cpu")
        code = 0
    except BaseException as error:
        (folder / f"error{rank}").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def ended_within(children: list[int], seconds: float) -> list[int | None]:
    """Return the exit status of each process, None where it had to be killed."""
    deadline = time.monotonic() + seconds
    codes: dict[int, int | None] = {}
    while len(codes) < len(children) and time.monotonic() < deadline:
        for child in set(children) - set(codes):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = status
        time.sleep(0.05)
    for child in set(children) - set(codes):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        codes[child] = None
    return [codes[child] for child in children]
