"""The other processes of a run, and which of them have ended."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch.distributed as dist
from detectron2.utils import comm

from ..errors import UserError

logger = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds from a lost connection until its process must have ended
_PAUSE = 0.05
_KEY = "mask2former/ended for want of another/"


@contextmanager
def named_when_lost() -> Iterator[None]:
    """Turn the error of a lost connection into one that says which process has ended.

    Every process of the group enters the block, once the group is there. Processes of this machine
    are known by their ids; of others, the error says that it is one of theirs.

    Raises:
        UserError: another process of the group has ended inside the block.
    """
    peers = comm.all_gather((socket.gethostname(), os.getpid()))
    try:
        yield
    except UserError:
        raise
    except RuntimeError as error:  # of which torch.distributed's are some
        dead = _wait_for_dead(peers)
        if not dead:
            raise
        first = _without_followers(dead) or dead
        logger.debug("ended for want of process %s", first)
        names = ", ".join(f"{rank} (pid {peers[rank][1]})" for rank in first)
        raise UserError(
            f"process {names} of {len(peers)} on {socket.gethostname()} has ended, and this one, "
            f"{dist.get_rank()}, cannot go on without it. Its own output says why; one that was "
            "killed for lack of memory has none. --resume goes on from the last checkpoint."
        ) from error


def _wait_for_dead(peers: list[tuple[str, int]]) -> list[int]:
    """Return the ranks of processes of this machine that have ended, waiting for the first."""
    own, deadline = peers[dist.get_rank()], time.monotonic() + _PATIENCE
    while True:
        dead = [
            rank
            for rank, (host, pid) in enumerate(peers)
            if host == own[0] and pid != own[1] and _has_ended(pid)
        ]
        if dead or time.monotonic() > deadline:
            return dead
        time.sleep(_PAUSE)


def _has_ended(pid: int) -> bool:
    """Tell whether a process has ended, also where its parent has not yet asked how."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    with suppress(OSError):  # no /proc
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return False


def _without_followers(dead: list[int]) -> list[int]:
    """Say that this process ends for want of another, and leave out those that have said so."""
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set(f"{_KEY}{dist.get_rank()}", "1")
        return [rank for rank in dead if not store.check([f"{_KEY}{rank}"])]
    except RuntimeError:  # the store has ended with the process that had it
        return dead
