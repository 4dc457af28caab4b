"""Workers of data loaders that die or lack memory: an error with the cure, and soon."""

import os
import signal
import time
from typing import Any

import pytest
import torch
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data.samplers import TrainingSampler

from mask2former.data.workers import WatchedLoader, WorkerMapper
from mask2former.errors import UserError

RECORDS = [{"number": i, "width": 10, "height": 20} for i in range(12)]


def _load(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"image": torch.full((3, 20, 10), record["number"])}


def _killed(record: dict[str, Any]) -> dict[str, Any]:
    if record["number"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return _load(record)


def _failing(record: dict[str, Any]) -> dict[str, Any]:
    raise OSError(f"no file {record['number']}")


def _loader(kind: str, mapper, workers: int) -> WatchedLoader:
    mapper = WorkerMapper(mapper, 0)
    if kind == "test":
        loader = build_detection_test_loader(RECORDS, mapper=mapper, num_workers=workers)
    else:
        loader = build_detection_train_loader(
            RECORDS,
            mapper=mapper,
            sampler=TrainingSampler(len(RECORDS), shuffle=False),
            total_batch_size=2,
            aspect_ratio_grouping=kind == "grouped",
            num_workers=workers,
        )
    return WatchedLoader(loader, workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_workers_load_arrives_as_it_is(workers: int) -> None:
    loader = _loader("test", _load, workers)
    assert len(loader) == 12 and loader.num_workers == workers
    for i, [loaded] in enumerate(loader):
        assert loaded["number"] == i and torch.equal(loaded["image"], torch.full((3, 20, 10), i))


# torch's handler may tell of the death once more while its iterator is taken down, by chance.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["test", "train", "grouped"])
def test_a_killed_worker_is_an_error_with_the_cure(kind: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"NUM_WORKERS .* --shm-size.* It said: "):
        for _ in _loader(kind, _killed, 2):
            pass
    assert time.monotonic() - start < 60


def test_it_says_the_cure_also_while_the_main_process_does_something_else() -> None:
    before = torch.multiprocessing.active_children()  # of other tests, when those are not done yet
    batches = iter(_loader("train", _load, 1))
    next(batches)
    (worker,) = set(torch.multiprocessing.active_children()).difference(before)
    with pytest.raises(RuntimeError, match=r"NUM_WORKERS .* DataLoader worker .* Killed"):
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(30)  # the signal ends it
        next(batches)


def test_too_little_shared_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch alone prints this error, in a thread of the worker, and then hangs."""

    def share(*args: Any) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", share)
    with pytest.raises(RuntimeError, match=r"(?s)--shm-size.* unable to allocate shared memory"):
        next(iter(_loader("test", _load, 1)))


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_mappers_stay_what_they_are(workers: int) -> None:
    with pytest.raises(OSError, match="no file 0"):
        next(iter(_loader("test", _failing, workers)))
