"""Several processes: the same training as one, and an end for all when one of them dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from detectron2.structures import Instances

from mask2former.engine.distributed import wrap_model
from tests.engine.two_processes import tiny_model

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
    def work() -> None:
        if dist.get_rank() == world - 1:
            train(1, 0)
            os.kill(os.getpid(), signal.SIGKILL)
        train(50, 0)

    children = [start(rank, world, tmp_path, work) for rank in range(world)]
    deadline = time.monotonic() + 2 * TIMEOUT
    left, codes = set(children), {}
    while left and time.monotonic() < deadline:
        for child in list(left):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = status
                left.discard(child)
        time.sleep(0.05)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    failures = [f"{len(left)} of {world} processes hang"] if left else []
    for rank, child in enumerate(children[:-1]):
        path = tmp_path / f"error{rank}"
        if child in codes and (codes[child] == 0 or not path.exists()):
            failures.append(f"process {rank} ended with {codes[child]} and no error")
    promise = f"one of {world} processes dies: the others end with an error in {TIMEOUT} s"
    torture.record("Processes", promise, world, failures)
