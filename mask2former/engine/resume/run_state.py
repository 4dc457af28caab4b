"""The state of a run in all its processes, as a checkpoint has it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ...random_state import kept_random_state, random_state, set_random_state
from .data_order import DataOrder

logger = logging.getLogger(__name__)

_PRIME = 1009  # between the seeds of iterations, so that those of processes stay apart


class RunState:
    """Random generators and order of the data of every process, saved and restored.

    The first process writes checkpoints, so the others' states are gathered before (`gather`).

    Args:
        data_loader: of this process; not iterated yet.
        batch: images of one step in all processes together.
        seed: SEED of the config.
    """

    def __init__(self, data_loader: Any, batch: int, seed: int = -1) -> None:
        self._order = DataOrder(data_loader)
        self._batch = batch
        self._seed = seed
        self._images_before, self._first_iter = 0, 0
        self._gathered: tuple[int, list[Any]] = (-1, [])
        self._loaded: Mapping[str, Any] = {}

    def images(self, steps: int) -> int:
        """Return how many images all processes together have used after so many steps."""
        return self._images_before + (steps - self._first_iter) * self._batch

    def gather(self, iteration: int) -> None:
        """Note the states of all processes after an iteration; each of them has to call it."""
        own = {"random": random_state(), "places": self._order.places()}
        self._gathered = iteration, comm.all_gather(own)

    @contextmanager
    def kept(self, iteration: int) -> Iterator[None]:
        """Mark a block in which nothing is trained, so that random numbers after it are the same.

        Each process has to enter it, after the same iteration.
        """
        self.gather(iteration)
        with kept_random_state():
            yield

    def state_dict(self, iteration: int) -> dict[str, Any]:
        """Return the state after an iteration, as it was gathered.

        Without it, where a single process of several saves by itself, the states of the others
        are missing, and resuming from it is not exact.
        """
        if self._gathered[0] != iteration and comm.get_world_size() == 1:
            self.gather(iteration)
        gathered, processes = self._gathered
        return {
            "seed": self._order.seed,
            "batch": self._batch,
            "images": self.images(iteration + 1),
            "size": self._order.size,
            "processes": processes if gathered == iteration else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned; `go_on` brings it to effect."""
        self._loaded = state

    def go_on(self, steps: int) -> list[str]:
        """Restore the loaded state, before the first step.

        Args:
            steps: that were trained so far.

        Returns:
            why the run is not bit for bit the one that was interrupted; empty if it is.
        """
        state, rank, world = self._loaded, comm.get_rank(), comm.get_world_size()
        self._first_iter = steps
        self._images_before = images = int(state.get("images", steps * self._batch))
        processes = state.get("processes", [])
        places = [process["places"] for process in processes]
        reasons = [self._order.go_on(state.get("seed"), images, places)]
        if processes and len(processes) != world:
            reasons.append(f"{len(processes)} processes have become {world}")
        if state.get("batch", self._batch) != self._batch:
            reasons.append(f"SOLVER.IMS_PER_BATCH {state['batch']} has become {self._batch}")
        if state.get("size", self._order.size) != self._order.size:
            reasons.append(f"{state['size']} training images have become {self._order.size}")
        if len(processes) == world:
            set_random_state(processes[rank]["random"])
        else:
            if not processes:
                reasons.append("the checkpoint has no states of the random generators")
            if self._seed >= 0:  # not the numbers again that iteration 0 has seen
                seed_all_rng((self._seed + rank + _PRIME * steps) % 2**32)
        return [reason for reason in reasons if reason]
