"""States of the global random generators."""
# ruff: noqa: NPY002

import random
from pathlib import Path

import numpy as np
import torch

from mask2former.checkpoints.storage.weights_io import read_checkpoint, save_torch
from mask2former.random_state import (
    kept_random_state,
    random_state,
    seed_cpu,
    set_random_state,
)


def numbers() -> list[float]:
    python, gauss = random.random(), random.gauss(0, 1)
    return [python, gauss, float(np.random.randn()), torch.randn(()).item()]


def test_restored_from_a_checkpoint_that_runs_no_code(tmp_path: Path) -> None:
    numbers()  # leaves half of a pair of Gaussian numbers in Python's and NumPy's
    path = tmp_path / "a.pth"
    save_torch({"model": {"w": torch.ones(1)}, "state": random_state()}, path)
    expected = [numbers() for _ in range(400)]  # longer than a block of NumPy's
    set_random_state(read_checkpoint(path)["state"])
    assert [numbers() for _ in range(400)] == expected


def test_a_block_leaves_no_trace() -> None:
    before = random_state()
    expected = numbers()
    set_random_state(before)
    with kept_random_state():
        assert numbers() == expected
    assert numbers() == expected


def test_seeds_that_are_close_give_other_numbers() -> None:
    drawn = []
    for entropy in ((1, 2), (1, 3), (2, 2), (2, 1), (1,)):
        seed_cpu(*entropy)
        drawn.append(numbers())
    seed_cpu(1, 2)
    assert numbers() == drawn[0]
    assert all(len(set(column)) == 5 for column in zip(*drawn, strict=True))
