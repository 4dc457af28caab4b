"""Which of the other processes of a run has ended; several at once: tests/torture."""

import os
import socket

import pytest
import torch.distributed as dist

from mask2former.engine import peers
from mask2former.errors import UserError

HOST = socket.gethostname()


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended, and whose parent has not asked how."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    yield child
    os.waitpid(child, 0)


def group(monkeypatch: pytest.MonkeyPatch, *others: tuple[str, int]) -> dist.HashStore:
    """Pretend that this process is rank 0 of a group."""
    store = dist.HashStore()
    monkeypatch.setattr(peers.comm, "all_gather", lambda mine: [mine, *others])
    monkeypatch.setattr(peers.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(peers.dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(peers, "_PATIENCE", 0.2)
    return store


def test_the_one_that_has_ended_is_named(monkeypatch, ended):
    group(monkeypatch, (HOST, os.getppid()), (HOST, ended))
    expected = rf"process 2 \(pid {ended}\) of 3 on {HOST} has ended, and this one, 0, cannot"
    with pytest.raises(UserError, match=expected), peers.named_when_lost():
        raise RuntimeError("Connection closed by peer")


def test_those_that_followed_are_not_named(monkeypatch, ended):
    store = group(monkeypatch, (HOST, ended), (HOST, ended))
    store.set(f"{peers._KEY}1", "1")
    with pytest.raises(UserError, match="process 2 "), peers.named_when_lost():
        raise RuntimeError("Connection closed by peer")
    assert store.check([f"{peers._KEY}0"])  # this process has ended for want of another, too


def test_other_errors_stay(monkeypatch, ended):
    """One while all live, one of a process on another machine, and one that is the user's."""
    group(monkeypatch, (HOST, os.getppid()), ("another", ended))
    with pytest.raises(RuntimeError, match="sizes differ"), peers.named_when_lost():
        raise RuntimeError("sizes differ")
    with pytest.raises(UserError, match="no such file"), peers.named_when_lost():
        raise UserError("no such file")
