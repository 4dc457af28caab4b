"""The topics by name, each measured in a process of its own."""

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from .timing import Row, be_quiet

TOPICS = (
    "inference",
    "training",
    "losses",
    "mapping",
    "deform_attn",
    "contention",
    "gpu",
    "growth",
)


def measure(topic: str, rounds: int, quick: bool) -> list[Row]:
    """Return the rows of one topic."""
    module = importlib.import_module(f"{__package__}.measurements.{topic}")
    if topic == "growth":  # single calls: what counts is how they compare over a wide range
        rounds = min(rounds, 2)
    return [{"topic": topic, **row} for row in module.measure(rounds, quick)]


def measure_apart(topic: str, rounds: int, quick: bool) -> list[Row]:
    """Measure the same in a new process, so that it does not matter what was measured before: how
    long an allocation takes depends on what a process has freed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=be_quiet) as pool:
        return pool.submit(measure, topic, rounds, quick).result()
