"""Where runs go on in the data of loaders that are not ours."""

from typing import Any

from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import TrainingSampler

from mask2former.engine.resume.data_order import DataOrder


def loader(seed: int) -> Any:
    return build_detection_train_loader(
        list(range(7)),
        mapper=lambda item: item,
        sampler=TrainingSampler(7, seed=seed),
        total_batch_size=2,
        aspect_ratio_grouping=False,
        num_workers=0,
    )


def take(batches: Any, count: int) -> list[list[int]]:
    iterator = iter(batches)
    return [next(iterator) for _ in range(count)]


def test_a_run_that_is_resumed_twice_sees_what_one_sees_that_is_not() -> None:
    straight = take(loader(5), 12)
    seen, seed = [], 5
    for number in range(3):  # each in a process that drew another seed
        batches = loader(seed if number == 0 else 100 + number)
        order = DataOrder(batches)
        if number:
            assert order.go_on(seed, 2 * len(seen), []) == ""
        seen += take(batches, 4)
        seed = order.seed
    assert seen == straight and seed == 5
