"""The endless stream of training samples, which can be gone on with at any place.

A sampler's seed fixes which record stands at which place of the stream, and seed and place fix the
random numbers of its augmentation. So the stream is the same with any number of loader workers and
of processes, which take its places in turns.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.data import DatasetFromList
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..errors import UserError
from ..random_state import kept_random_state, seed_cpu

_MAX_TRIES = 1000  # of other records, where a mapper returns None


@dataclass(frozen=True)
class Places:
    """Places of the stream: those of ``left``, then every ``step``-th from ``start`` on.

    Attributes:
        left: in ascending order, all below ``start``.
    """

    left: tuple[int, ...]
    start: int
    step: int

    def __iter__(self) -> Iterator[int]:
        return itertools.chain(self.left, itertools.count(self.start, self.step))

    def after(self, count: int) -> "Places":
        """Return these places without the first ``count``."""
        skipped = max(count - len(self.left), 0)
        return Places(self.left[count:], self.start + skipped * self.step, self.step)


def shared_places(places: Sequence[Places], rank: int, world: int) -> Places:
    """Deal what some processes have left among others.

    Args:
        places: of each of the earlier processes; together all places from some one on.
        rank, world: which of the new processes is asked for, and how many there are.
    """
    start = max(p.start for p in places)  # all places from here on are left
    before = [range(p.start, start, p.step) for p in places]
    left = sorted(itertools.chain(*before, *(p.left for p in places)))
    return Places(tuple(left[rank::world]), start + (rank - len(left)) % world, world)


class TrainLoader:
    """Endless batches, lists of mapped records, of the places that one process takes.

    To be iterated once; `places` then tells what its batches have not had yet.

    Args:
        records: a list, or a dataset with indices.
        mapper: maps a record; where it returns None, another record takes the place.
        make_sampler: returns one of detectron2's training samplers for a seed.
        seed: of the stream; the same in all processes.
        batch_size: of this process.
        num_workers: as of torch's loader.
        group_by_shape: wide images, and high ones, in batches of their own.
        rank, world: which of the processes this is, and how many there are.
    """

    def __init__(
        self,
        records: Sequence[Any] | Dataset,
        mapper: Callable[[Any], Any],
        make_sampler: Callable[[int], Sampler],
        seed: int,
        *,
        batch_size: int,
        num_workers: int = 0,
        group_by_shape: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        dataset = DatasetFromList(records, copy=False) if isinstance(records, list) else records
        self.size = len(dataset)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self._mapper = mapper
        self._records = dataset
        self._make_sampler = make_sampler
        self._num_workers = num_workers
        self._group_by_shape = group_by_shape
        self._seed = seed
        self._places = Places((), rank, world)
        self._drawn = 0
        self._held: list[list[tuple[int, Any]]] = [[], []]

    @property
    def seed(self) -> int:
        """The seed of the stream."""
        return self._seed

    @property
    def places(self) -> Places:
        """What is left for the batches to come, those aside that workers and groups hold ready."""
        rest = self._places.after(self._drawn)
        held = sorted(place for group in self._held for place, _ in group)
        return Places((*held, *rest.left), rest.start, rest.step)

    def go_on(self, seed: int, places: Places) -> None:
        """Take the places of the stream with this seed.

        Raises:
            ValueError: a batch has been drawn already.
        """
        if self._drawn:
            raise ValueError("The loader has given batches already")
        self._seed, self._places = seed, places

    def __iter__(self) -> Iterator[list[Any]]:
        workers: dict[str, Any] = {"num_workers": self._num_workers}
        if self._num_workers:  # samples, not batches, wait in the queues
            workers["prefetch_factor"] = 2 if self._group_by_shape else 2 * self.batch_size
        samples = DataLoader(
            _Samples(self._records, self._mapper, self._seed),  # type: ignore[arg-type]
            batch_size=None,
            sampler=_Keys(self._places, self._make_sampler(self._seed)),  # type: ignore[arg-type]
            collate_fn=_as_it_is,
            generator=torch.Generator().manual_seed(self._seed),  # leaves the global one alone
            **workers,
        )
        for place, sample in zip(self._places, samples):
            self._drawn += 1
            group = self._held[self._group_by_shape and sample["width"] > sample["height"]]
            group.append((place, sample))
            if len(group) == self.batch_size:
                batch = [sample for _, sample in group]
                group.clear()
                yield batch


class _Keys:
    """Pairs of place and index of a record, for the given places of a sampler's endless order."""

    def __init__(self, places: Places, sampler: Sampler) -> None:
        self._places = places
        self._sampler = sampler

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # What all processes draw from; detectron2's samplers offer no other way.
        order, at = self._sampler._infinite_indices(), 0  # type: ignore[attr-defined]
        for place in self._places:
            yield place, next(itertools.islice(order, place - at, None))
            at = place + 1


class _Samples(Dataset):
    """Mapped records, by place and index."""

    def __init__(self, records: Any, mapper: Callable[[Any], Any], seed: int) -> None:
        self._records = records
        self._map = PicklableWrapper(mapper)  # so that a lambda will do
        self._seed = seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        if get_worker_info() is not None:
            return self._draw(*key)
        with kept_random_state(cuda=False):
            return self._draw(*key)

    def _draw(self, place: int, index: int) -> Any:
        seed_cpu(self._seed, place)
        for _ in range(_MAX_TRIES):
            sample = self._map(self._records[index])
            if sample is not None:
                return sample
            index = int(torch.randint(len(self._records), ()))
        raise UserError(
            f"The mapper of the training data has returned None {_MAX_TRIES} times in a row: none "
            "of the images tried is fit for training"
        )


def _as_it_is(sample: Any) -> Any:
    return sample


def places_to_plain(places: Places) -> Mapping[str, Any]:
    """Return places as a checkpoint has them."""
    return {"left": list(places.left), "start": places.start, "step": places.step}


def places_from_plain(plain: Mapping[str, Any]) -> Places:
    """Return what `places_to_plain` was given."""
    return Places(tuple(plain["left"]), int(plain["start"]), int(plain["step"]))
