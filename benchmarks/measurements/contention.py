"""What busy neighbours cost: the same work alone and beside processes that do nothing but count."""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from mask2former.threads import SPIN_COUNT

from ..timing import Row, be_quiet, seconds

PEER = "transformers"
NEIGHBOURS = (0, 1, 2)
_SPINNING = "GOMP_SPINCOUNT"

# Each names a case of ours, the peer's, and their arguments.
IMAGE = ("image 480x640, file to three results", "ours", "transformers", (480, 640))
STEP = ("training step, 256x256 crops, batch 2", "our_step", "transformers_step", (256, 2))


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Yield all rows of this topic; `quick` leaves out the second neighbour and the training."""
    yield from _rows(*IMAGE, rounds, NEIGHBOURS[:2] if quick else NEIGHBOURS)
    if not quick:  # two pairs and one neighbour at most, as each pair takes most of a minute
        yield from _rows(*STEP, min(rounds, 2), NEIGHBOURS[:2])


def _rows(
    what: str, ours: str, peer: str, size: tuple[int, int], rounds: int, neighbours: tuple[int, ...]
) -> Iterator[Row]:
    """Measure in turn, each in a process of its own, whose threads wait as users' do: ours as
    `import mask2former` has it, the peer's as torch has it."""
    alone: Row = {}
    with _worker(ours, size, SPIN_COUNT) as mine, _worker(peer, size, None) as theirs:
        for count in neighbours:
            with _busy(count):
                pairs = [(mine(), theirs()) for _ in range(rounds)]
            a, b = (statistics.median(values) for values in zip(*pairs))
            beside = f"beside {count} busy processes" if count else "alone"
            row = {"what": f"{what}, {beside}", "unit": "s", "ours": a, "peer": b}
            yield row | {"ratio": b / a, "peer_name": PEER, "rounds": rounds}
            alone = alone or row
            if count:
                slower = {"ours": a / alone["ours"], "peer": b / alone["peer"]}
                slower |= {"ratio": slower["peer"] / slower["ours"], "min_ratio": 1.0}
                about = {"what": f"{what}, {beside} over alone", "unit": "", "peer_name": PEER}
                yield about | slower


@contextmanager
def _worker(case: str, size: tuple[int, int], spin_count: str | None) -> Iterator[Any]:
    """Start a process that does a case of `cases.CASES`; yields what times one call."""
    before = os.environ.pop(_SPINNING, None)
    if spin_count is not None:
        os.environ[_SPINNING] = spin_count
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context, initializer=be_quiet) as pool:
            pool.submit(_prepare, case, size).result()
            yield lambda: pool.submit(_time).result()
    finally:
        os.environ.pop(_SPINNING, None)
        if before is not None:
            os.environ[_SPINNING] = before


_work: Any = None


def _prepare(case: str, size: tuple[int, int]) -> None:
    global _work
    from ..cases import CASES

    _work = CASES[case](*size)
    _work()


def _time() -> float:
    return seconds(_work)


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Run so many processes that count, at normal priority."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        time.sleep(0.3 if count else 0)
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
