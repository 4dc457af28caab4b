"""Peak memory of one piece of work, each in a process of its own.

`python -m benchmarks.memory CASE JSON ROUNDS` does the work and prints the peak, in bytes, over the
level before it, and the median time of so many further calls, in seconds.
"""

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from .models import ROOT
from .timing import Row, seconds

Peak = Callable[[], float]  # measures one, in GB


def peak_of(case: str, **arguments: Any) -> float:
    """Return peak memory in GB of a case of `cases.CASES`, over the level before its first forward.

    Raises:
        RuntimeError: the process failed; with the end of what it wrote.
    """
    return peak_and_time(case, 0, **arguments)[0]


def peak_and_time(case: str, rounds: int, **arguments: Any) -> tuple[float, float]:
    """Return the same, and the median of some further calls in seconds (0 where `rounds` is)."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", case]
    command += [json.dumps(arguments), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} {arguments} failed:\n{done.stderr[-2000:]}")
    peak, time = done.stdout.split()[-2:]
    return int(peak) / 1e9, float(time)


def compare_peaks(
    what: str, ours: Peak, peer: Peak, rounds: int, *, peer_name: str, max_ratio: float
) -> Row:
    """Measure two peaks in turn, each in new processes, as allocators make them vary.

    Returns:
        a row of the table: medians in GB, and as `ratio` the median over the pairs of ours over the
        peer's; `max_ratio` is the ratio that is aimed at.
    """
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return {
        "what": f"{what}, peak memory over the level before",
        "unit": "GB",
        "ours": statistics.median(a for a, _ in pairs),
        "peer": statistics.median(b for _, b in pairs),
        "peer_name": peer_name,
        "ratio": statistics.median(a / b for a, b in pairs),
        "rounds": rounds,
        "max_ratio": max_ratio,
    }


def peak_while(work: Callable[[], Any]) -> int:
    """Return bytes of memory at the highest point of a call, over what was in use before.

    Free memory that the process still holds is given back first, so that it cannot hide a part.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    _trim()
    process = psutil.Process()
    before = process.memory_info().rss
    if _reset_high_water_mark():
        result = work()  # noqa: F841  what it returns counts, so it must live until the reading
        return _high_water_mark() - before
    return _sampled_peak(process, work) - before


def _trim() -> None:
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library, which keeps less
        return


def _reset_high_water_mark() -> bool:
    """Let Linux count the peak from now on; False where that cannot be."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water_mark() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _sampled_peak(process: psutil.Process, work: Callable[[], Any], every: float = 0.005) -> int:
    peak, done = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not done.wait(every):
            peak.append(max(peak.pop(), process.memory_info().rss))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return peak[0]


def main() -> None:
    """Do the work that the arguments name."""
    from .cases import CASES

    case, arguments, rounds = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    work = CASES[case](**arguments)
    peak = peak_while(work)
    times = [seconds(work) for _ in range(rounds)]
    print(peak, statistics.median(times) if times else 0)


if __name__ == "__main__":
    main()
