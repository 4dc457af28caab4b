"""Large tensors: like any other, but that free memory is handed back before."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mask2former.ops import memory

LARGE = (65, 2**20)  # 272 MB of float32


def test_small_ones_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_trim", lambda: pytest.fail("called"))
    tensor = memory.empty_large(50, 2**20, dtype=torch.bool)
    assert tensor.shape == (50, 2**20)
    assert tensor.dtype == torch.bool


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_memory_that_was_freed_is_handed_back_first():
    small = [torch.ones(5000) for _ in range(5000)]  # 100 MB, in pieces that malloc keeps
    last = torch.ones(5000)  # the top of the heap, without which nothing below can shrink
    del small
    before = _resident()
    large = memory.empty_large(*LARGE)  # not written yet, so not there yet
    assert before - _resident() > 50e6
    del last, large


def _resident() -> int:
    """Bytes of the process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_it_can_be_written():
    tensor = memory.empty_large(*LARGE, dtype=torch.float32)
    tensor[-1].fill_(1)
    assert tensor[-1].sum().item() == LARGE[1]


def test_other_systems(monkeypatch):
    memory._trim.cache_clear()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.empty_large(*LARGE).shape == LARGE
    memory._trim.cache_clear()


@pytest.mark.parametrize(
    ("megabytes", "grad", "device", "calls"),
    [(33, False, "cpu", 1), (31, False, "cpu", 0), (33, True, "cpu", 0), (33, False, "meta", 0)],
)
def test_stages_of_large_maps_give_back_in_eval(monkeypatch, megabytes, grad, device, calls):
    trims = []
    monkeypatch.setattr(memory, "_trim", lambda: trims.append)
    maps = [torch.empty(megabytes, 2**19, dtype=torch.uint8, device=device) for _ in range(2)]
    with torch.set_grad_enabled(grad):
        memory.give_back(maps)
    assert trims == [0] * calls


CHILD = """
import ctypes, sys, torch
from mask2former.ops.memory import keep_freed_memory, return_large_memory

class Facts(ctypes.Structure):
    names = "arena ordblks smblks mapped mapped_bytes a b c d e"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

facts = ctypes.CDLL(None).mallinfo2
facts.restype = Facts
if "keep" in sys.argv:
    keep_freed_memory()
if "freed" in sys.argv:
    torch.ones(5 * 2**20)  # glibc keeps pieces of this size from now on
if "return" in sys.argv:
    return_large_memory()
before = facts().mapped_bytes
kept = torch.ones(2 * 2**20)
print(facts().mapped_bytes - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_memory_comes_from_what_the_process_keeps():
    mapped = {
        words: int(subprocess.check_output([sys.executable, "-c", CHILD, *words.split()]))
        for words in ("", "keep", "freed", "freed return")
    }
    assert mapped["keep"] == mapped["freed"] == 0
    assert mapped[""] >= 8 * 2**20 <= mapped["freed return"]


def test_buffers_are_the_same_memory_again_where_they_fit():
    buffers, like = memory.Buffers(), torch.ones(1)
    first = buffers.of("tokens", like, (2, 3), torch.float32)
    assert first.shape == (2, 3)
    assert buffers.of("tokens", like, [2, 3], torch.float32) is first
    assert buffers.of("others", like, (2, 3), torch.float32) is not first
    assert buffers.of("tokens", like, (2, 3), torch.float64).dtype == torch.float64
    assert buffers.of("tokens", like, (3, 2), torch.float64).shape == (3, 2)
