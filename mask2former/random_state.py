"""The states of the global random generators: Python's, NumPy's and torch's."""
# ruff: noqa: NPY002 (NumPy's global generator is what detectron2's augmentations draw from)

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

RandomState = dict[str, Any]


def random_state(cuda: bool = True) -> RandomState:
    """Return the states of all generators of this process, as plain values and tensors.

    Args:
        cuda: whether that of the current CUDA device is wanted, where there is one.
    """
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    state = {
        "python": [version, torch.tensor(internal), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if cuda and torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Bring all generators to what `random_state` returned.

    The state of CUDA is left out where there is none here or there.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextmanager
def kept_random_state(cuda: bool = True) -> Iterator[None]:
    """Put the generators back at the end of a block, so that what follows does not depend on it."""
    state = random_state(cuda)
    try:
        yield
    finally:
        set_random_state(state)


def seed_cpu(*entropy: int) -> None:
    """Seed Python's, NumPy's and torch's generators of the CPU from integers of 0 or more.

    Other integers give other numbers, however close they are. CUDA's generator stays as it is.
    """
    words = np.random.SeedSequence(entropy).generate_state(3, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]) % 2**32)
    torch.default_generator.manual_seed(int(words[2]))
