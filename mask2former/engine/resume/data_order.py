"""Where a process is in the training data, and how a resumed run goes on from there.

Our loader goes on exactly, whatever its workers and groups held ready (`TrainLoader`). Of other
loaders, which a trainer may override ours by, detectron2's samplers are known: with the same seed
and the indices used so far left out they go on exactly without workers and without grouping by
aspect ratio, else to within the few batches that those hold ready.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.utils import comm
from torch.utils.data import DataLoader, Sampler

from ...data.stream import (
    Places,
    TrainLoader,
    places_from_plain,
    places_to_plain,
    shared_places,
)

logger = logging.getLogger(__name__)


class DataOrder:
    """The place of this process in its training data.

    Args:
        data_loader: of this process; not iterated yet.
    """

    def __init__(self, data_loader: Any) -> None:
        self._loader = _find(data_loader, lambda node: isinstance(node, TrainLoader))
        self._source = _find(data_loader, _has_sampler)
        self._torch_loader = _find(data_loader, lambda node: isinstance(node, DataLoader))
        if self._torch_loader is not None and self._torch_loader.generator is None:
            # Of its own, so that a new iterator draws nothing from the restored global one.
            self._seed_workers(int(torch.randint(2**31, ())))

    @property
    def seed(self) -> int | None:
        """The seed of the stream of images, or None where it is not known."""
        if self._loader is not None:
            return self._loader.seed
        return None if self._source is None else getattr(self._source.sampler, "_seed", None)

    @property
    def size(self) -> int | None:
        """How many images there are, where that is known."""
        return None if self._loader is None else self._loader.size

    def places(self) -> Mapping[str, Any] | None:
        """Return what is left for this process, as a checkpoint has it; None if not known."""
        return None if self._loader is None else places_to_plain(self._loader.places)

    def go_on(
        self, seed: int | None, images: int, places: Sequence[Mapping[str, Any] | None]
    ) -> str:
        """Go on in the stream of an earlier run; to be called before the loader is iterated.

        Args:
            seed: of that run; None if not known.
            images: that all processes together have used.
            places: what `places` returned in each of its processes; empty if not known.

        Returns:
            why the images are not exactly those that the earlier run would have seen next; "" if
            they are.
        """
        rank, world = comm.get_rank(), comm.get_world_size()
        if seed is None:
            return "the checkpoint has no seed of the order of the data, which starts anew"
        if self._loader is not None:
            known = [places_from_plain(p) for p in places if p is not None]
            if not known or len(known) != len(places):
                start = images - images % world + rank
                self._loader.go_on(seed, Places((), start, world))
                return "the checkpoint does not say which images wait in the groups of the loader"
            same = len(known) == world
            self._loader.go_on(seed, known[rank] if same else shared_places(known, rank, world))
            return ""
        if self._source is None or self.seed is None:
            return "the sampler of the data is not known and starts anew"
        self._source.sampler._seed = seed  # detectron2's samplers offer no other way
        self._source.sampler = _SkippingSampler(self._source.sampler, images // world)
        if self._torch_loader is not None:  # not the numbers again that the first images have seen
            self._seed_workers(hash((seed, images, rank)) % 2**31)
        return ""

    def _seed_workers(self, seed: int) -> None:
        self._torch_loader.generator = torch.Generator().manual_seed(seed)


class _SkippingSampler(Sampler[int]):
    """The indices of another sampler without the first ``count``."""

    def __init__(self, sampler: Sampler[int], count: int) -> None:
        self.sampler = sampler
        self._seed = getattr(sampler, "_seed", None)  # where checkpoints look for it
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.sampler), self.count, None)


def _has_sampler(node: Any) -> bool:
    # A torch loader's own sampler cannot be replaced; what detectron2 puts inside of it can.
    return not isinstance(node, DataLoader) and isinstance(getattr(node, "sampler", None), Sampler)


def _find(data_loader: Any, is_wanted: Any) -> Any:
    """Return the innermost part of a loader that is wanted, or None.

    Parts are what a wrapper holds as ``loader``, and what a loader holds as ``dataset``.
    """
    found, node = None, data_loader
    while node is not None:
        if is_wanted(node):
            found = node
        node = getattr(node, "loader", None) or getattr(node, "dataset", None)
    return found
