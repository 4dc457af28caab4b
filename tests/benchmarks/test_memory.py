"""The meter of memory reads known amounts."""

import psutil
import pytest
import torch

from benchmarks import memory

MIB = 2**20


def allocate(size=192 * MIB):
    return torch.ones(size, dtype=torch.uint8)


def test_what_is_freed_again_counts():
    def work():
        allocate()
        return allocate(MIB)

    assert memory.peak_while(work) == pytest.approx(192 * MIB, rel=0.1)


def test_what_is_returned_counts():
    assert memory.peak_while(allocate) == pytest.approx(192 * MIB, rel=0.1)


def test_sampling_reads_the_same():
    process = psutil.Process()
    before = process.memory_info().rss
    peak = memory._sampled_peak(process, lambda: allocate().sum() + allocate().sum())
    assert peak - before > 180 * MIB


def test_a_case_in_a_process_of_its_own():
    peak, seconds = memory.peak_and_time("allocate", 2, megabytes=300)
    assert peak == pytest.approx(0.3, rel=0.1)
    assert 0 < seconds < 5


def test_a_failing_case_says_why():
    with pytest.raises(RuntimeError, match="unexpected keyword argument 'size'"):
        memory.peak_of("allocate", size=1)
