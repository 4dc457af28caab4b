"""Work on a CPU that is shared among threads by whole pieces.

PyTorch splits every operation among its threads, which meet at its end. Where operations are short
and many, threads wait more than they compute, and longer yet if another process has one of the
cores. Here each thread does all operations of its pieces alone, and they meet once.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .recording import is_recorded

Piece = TypeVar("Piece")


def share_among_threads(work: Callable[[Sequence[Piece]], None], pieces: Sequence[Piece]) -> None:
    """Call ``work`` with successive parts of ``pieces``, each in a thread of its own.

    There are as many threads as PyTorch has, and none more than there are pieces. Where operations
    have to be seen in this thread, as gradients, recordings and counters of operations need it,
    one call gets all pieces.

    Args:
        work: computes on CPUs, without gradients and autocast; must not depend on the order of
            calls.
        pieces: are left in their order.

    Raises:
        Exception: that of the first part which failed, once all have ended.
    """
    threads = torch.get_num_threads()
    count = min(threads, len(pieces))
    seen = torch.is_grad_enabled() or is_recorded() or _get_current_dispatch_mode() is not None
    if count < 2 or seen:
        work(pieces)
        return
    ends = [len(pieces) * i // count for i in range(count + 1)]
    parts = [pieces[start:end] for start, end in pairwise(ends)]
    mode = torch.is_inference_mode_enabled()

    def run(part: Sequence[Piece]) -> None:
        # Modes are those of a thread.
        with torch.inference_mode(mode), torch.no_grad():
            work(part)

    done = [_pool(threads).submit(run, part) for part in parts]
    wait(done)  # an exception must not reach the caller while others still write
    for future in done:
        future.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return so many threads, whose operations run in one thread each."""
    started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # before its first use, a thread takes the common number
        torch.set_num_threads(1)  # of this thread, and the common one
        started.wait()

    pool = ThreadPoolExecutor(threads, "mask2former", start)
    for _ in range(threads):
        pool.submit(int)  # starts a thread, as those before wait
    started.wait()
    torch.set_num_threads(threads)
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads stay behind
