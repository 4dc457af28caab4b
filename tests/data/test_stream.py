"""The endless stream of training samples: its order, its random numbers, and going on in it."""
# ruff: noqa: NPY002 (the global generators are what is tested)

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data.samplers import TrainingSampler

from mask2former.data.stream import Places, TrainLoader, shared_places

RECORDS = [{"id": i, "width": 30 if i % 3 else 10, "height": 20} for i in range(7)]


def mapper(record: dict[str, Any]) -> dict[str, Any]:
    drawn = (random.random(), float(np.random.rand()), torch.rand(()).item())
    return {**record, "drawn": drawn}


def loader(**options: Any) -> TrainLoader:
    def sampler(seed: int) -> TrainingSampler:
        return TrainingSampler(len(RECORDS), seed=seed)

    settings = {"mapper": mapper, "batch_size": 2, "seed": 3, **options}
    return TrainLoader(RECORDS, settings.pop("mapper"), sampler, settings.pop("seed"), **settings)


def first(batches: Any, count: int) -> list[list[tuple]]:
    return [[(x["id"], x["drawn"]) for x in b] for b in itertools.islice(batches, count)]


# Places


def test_places_by_hand() -> None:
    places = Places((2, 5), 7, 3)
    assert list(itertools.islice(places, 5)) == [2, 5, 7, 10, 13]
    for count in range(5):
        rest = places.after(count)
        assert list(itertools.islice(rest, 3)) == list(itertools.islice(places, count, count + 3))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_what_is_left_is_dealt_without_loss_or_repetition(world: int) -> None:
    left = [Places((1, 4), 6, 2), Places((), 3, 2)]
    dealt = [shared_places(left, rank, world) for rank in range(world)]
    expected = [1, 3, 4, 5, *range(6, 40)]
    found = [list(itertools.takewhile(lambda p: p < 40, places)) for places in dealt]
    assert sorted(itertools.chain(*found)) == expected
    assert [p[0] for p in found] == expected[:world]
    assert all(list(p.left) == sorted(p.left) for p in dealt)


# Batches


def test_the_order_is_the_samplers() -> None:
    order = list(itertools.islice(TrainingSampler(len(RECORDS), seed=3), 20))
    found = [i for batch in first(loader(), 10) for i, _ in batch]
    assert found == order


def test_workers_and_processes_do_not_change_the_samples() -> None:
    alone = [x for batch in first(loader(), 6) for x in batch]
    assert len({drawn for _, drawn in alone}) == 12
    assert [x for batch in first(loader(num_workers=2), 6) for x in batch] == alone
    shares = [first(loader(batch_size=1, rank=rank, world=2), 6) for rank in (0, 1)]
    assert [x for pair in zip(*shares, strict=True) for batch in pair for x in batch] == alone


def test_numbers_outside_do_not_depend_on_it_nor_it_on_them() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = (random.random(), np.random.rand(), torch.rand(()))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    batches = first(loader(), 2)
    assert (random.random(), np.random.rand(), torch.rand(())) == expected
    assert first(loader(), 2) == batches


def test_other_seeds_are_other_streams() -> None:
    numbers = [{d for batch in first(loader(seed=s), 3) for _, d in batch} for s in (3, 4)]
    assert not numbers[0] & numbers[1]


def test_wide_and_high_images_have_batches_of_their_own() -> None:
    batches = itertools.islice(loader(group_by_shape=True), 12)
    kinds = [{x["width"] > x["height"] for x in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds) and {True} in kinds and {False} in kinds


@pytest.mark.parametrize("done", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("workers", [0, 2])
def test_goes_on_exactly_at_any_batch(done: int, workers: int) -> None:
    """Groups hold images back, which workers have made, and a few more wait in the queues."""
    options = {"batch_size": 3, "group_by_shape": True, "num_workers": workers, "world": 2}
    straight = first(loader(**options), 10)
    stopped = loader(**options)
    assert first(stopped, done) == straight[:done]
    resumed = loader(seed=99, **options)
    resumed.go_on(stopped.seed, stopped.places)
    assert first(resumed, 10 - done) == straight[done:]
    again = loader(seed=98, **options)  # stopped twice
    again.go_on(resumed.seed, resumed.places)
    assert first(again, 3) == first(loader_after(options, 10), 3)


def loader_after(options: dict[str, Any], batches: int) -> Any:
    batches_of = iter(loader(**options))
    return itertools.islice(batches_of, batches, None)


def test_another_number_of_processes_takes_every_image_once() -> None:
    two = [loader(rank=rank, world=2, group_by_shape=True) for rank in (0, 1)]
    seen = [
        x for part, count in zip(two, (2, 3), strict=True) for b in first(part, count) for x in b
    ]
    places = [part.places for part in two]
    assert any(p.left for p in places)
    three = [loader(batch_size=1, rank=rank, world=3) for rank in range(3)]
    for rank, part in enumerate(three):
        part.go_on(3, shared_places(places, rank, 3))
        seen += [x for batch in first(part, 4) for x in batch]
    expected = [x for batch in first(loader(batch_size=1), 40) for x in batch]
    assert len(set(seen)) == len(seen) == 22
    assert set(seen) <= set(expected) and set(expected[:18]) <= set(seen)


def test_a_loader_that_has_begun_does_not_jump() -> None:
    begun = loader()
    first(begun, 1)
    with pytest.raises(ValueError, match="has given batches already"):
        begun.go_on(3, Places((), 0, 1))


# Mappers that refuse records


def test_another_record_takes_the_place_of_a_refused_one() -> None:
    def picky(record: dict[str, Any]) -> dict[str, Any] | None:
        return mapper(record) if record["id"] % 2 else None

    batches = first(loader(mapper=picky), 8)
    assert {i for batch in batches for i, _ in batch} == {1, 3, 5}
    assert first(loader(mapper=picky, num_workers=2), 8) == batches


def test_a_mapper_that_refuses_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="has returned None 1000 times in a row"):
        first(loader(mapper=lambda record: None), 1)
