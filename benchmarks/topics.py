"""The topics by name, each measured in a process of its own."""

import importlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

from .timing import Row, be_quiet

TOPICS = (
    "inference",
    "eomt",
    "training",
    "losses",
    "mapping",
    "deform_attn",
    "contention",
    "gpu",
    "growth",
)
BY_NAME_ONLY = ("export", "export_compiled")  # take minutes to trace and compile


def measure(topic: str, rounds: int, quick: bool) -> Iterator[Row]:
    """Yield the rows of one topic as they are measured."""
    module = importlib.import_module(f"{__package__}.measurements.{topic}")
    for row in module.measure(rounds, quick):
        yield {"topic": topic, **row}


def measure_apart(topic: str, rounds: int, quick: bool) -> Iterator[Row]:
    """Do the same in a new process, so that it does not matter what was measured before: how long
    an allocation takes depends on what a process has freed.

    Raises:
        RuntimeError: the process failed; it has written why.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, topic, rounds, quick))
    process.start()
    sender.close()  # the process has its own: when that is closed too, there are no more rows
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        pass
    finally:
        receiver.close()
        process.join()
    if process.exitcode:
        raise RuntimeError(f"{topic}: the process that measures it ended with {process.exitcode}")


def _send(sender: Connection, topic: str, rounds: int, quick: bool) -> None:
    be_quiet()
    with sender:
        for row in measure(topic, rounds, quick):
            sender.send(row)
