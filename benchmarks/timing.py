"""Timing of two things in turn, and what is made of the numbers."""

import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

Row = dict[str, Any]
Work = Callable[[], Any]


def seconds(work: Work) -> float:
    """Return wall-clock time of one call, waiting for a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_in_turn(works: Sequence[Work], rounds: int) -> list[list[float]]:
    """Time every call of each, in turn, so that a busy machine slows all alike.

    Args:
        works: called once before, and then `rounds` times each; every second round in the
            opposite order.

    Returns:
        one list of `rounds` times for each.
    """
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for i in range(rounds):
        order = range(len(works)) if i % 2 == 0 else reversed(range(len(works)))
        for k in order:
            times[k].append(seconds(works[k]))
    return times


def compare(
    what: str,
    ours: Work,
    peer: Work,
    rounds: int,
    *,
    peer_name: str,
    min_ratio: float | None = None,
) -> Row:
    """Time ours and a peer in turn.

    Returns:
        a row of the table: medians in seconds, and as `ratio` the median over the pairs of peer's
        time over ours; `min_ratio` is the ratio that is aimed at.
    """
    mine, theirs = time_in_turn([ours, peer], rounds)
    return {
        "what": what,
        "unit": "s",
        "ours": statistics.median(mine),
        "peer": statistics.median(theirs),
        "peer_name": peer_name,
        "ratio": statistics.median(b / a for a, b in zip(mine, theirs)),
        "rounds": rounds,
        "min_ratio": min_ratio,
    }


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return exponent b of the power law y = a x^b that fits best (least squares of the
    logarithms)."""
    if len(xs) != len(ys) or len(xs) < 2 or min(*xs, *ys) <= 0:
        raise ValueError(f"slope: expected two or more positive pairs, got {xs} and {ys}")
    log_x, log_y = [math.log(x) for x in xs], [math.log(y) for y in ys]
    return statistics.linear_regression(log_x, log_y).slope


def be_quiet() -> None:
    """Silence logging and warnings, for good: in a process of its own."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
