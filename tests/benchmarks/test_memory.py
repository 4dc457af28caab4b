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


@pytest.mark.slow
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


def test_medians_of_pairs():
    """Of 1/4, 3/4 and 2/2: of each side, and of the ratios, which is no ratio of the medians."""
    ours, peer = iter([1.0, 3.0, 2.0]), iter([4.0, 4.0, 2.0])
    row = memory.compare_peaks(
        "work", lambda: next(ours), lambda: next(peer), 3, peer_name="x", max_ratio=0.5
    )
    assert (row["ours"], row["peer"], row["ratio"]) == (2.0, 4.0, 0.75)
    assert row["what"] == "work, peak memory over the level before"
