"""Pieces of work among threads: who gets which, in which state, and what if one fails."""

import multiprocessing
import threading

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mask2former.ops.parallel import share_among_threads


@pytest.fixture(params=[2, 3], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def calls_of(pieces):
    """Return the parts in the order of their pieces, and the threads that got them."""
    calls = []
    share_among_threads(lambda part: calls.append((list(part), threading.get_ident())), pieces)
    calls.sort()
    return [part for part, _ in calls], {ident for _, ident in calls}


@torch.no_grad()
def test_each_thread_gets_successive_pieces(threads):
    parts, _ = calls_of(range(7))
    assert parts == {2: [[0, 1, 2], [3, 4, 5, 6]], 3: [[0, 1], [2, 3], [4, 5, 6]]}[threads]


@torch.no_grad()
def test_no_thread_gets_nothing():
    assert calls_of(range(2))[0] == [[0], [1]]
    assert calls_of(range(1))[0] == [[0]]
    assert calls_of([])[0] == [[]]


@torch.no_grad()
def test_they_work_at_the_same_time_with_one_thread_an_operation(threads):
    meeting, numbers = threading.Barrier(threads, timeout=60), []

    def work(part):
        meeting.wait()
        torch.rand(100, 1000).sigmoid().sum()
        numbers.append(torch.get_num_threads())

    share_among_threads(work, range(threads))
    assert numbers == [1] * threads
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_the_caller_hold(mode):
    modes = []

    def work(part):
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    with mode():
        share_among_threads(work, range(2))
    assert modes == [(False, mode is torch.inference_mode)] * 2


def test_what_has_to_be_seen_stays_in_this_thread():
    mine = {threading.get_ident()}
    assert calls_of(range(4)) == ([[0, 1, 2, 3]], mine)  # gradients
    with torch.no_grad(), FlopCounterMode(display=False):
        assert calls_of(range(4)) == ([[0, 1, 2, 3]], mine)


@torch.no_grad()
def test_an_error_comes_after_all_have_ended():
    ended = threading.Event()

    def work(part):
        if 0 in part:
            raise MemoryError("no room")
        threading.Event().wait(0.2)
        ended.set()

    with pytest.raises(MemoryError, match="no room"):
        share_among_threads(work, range(2))
    assert ended.is_set()
    assert calls_of(range(2))[0] == [[0], [1]]  # and goes on


@torch.no_grad()
def test_a_forked_process_has_threads_of_its_own():
    share_among_threads(len, range(2))
    child = multiprocessing.get_context("fork").Process(target=_share)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def _share():
    with torch.no_grad():
        assert calls_of(range(2))[0] == [[0], [1]]
