"""How many threads of the CPU there are, and how they wait for each other.

torch takes a thread for each core that a process may run on. A container may have a share of the
time of many cores instead: once its threads have used that up, they are stopped for the rest of a
period, some of them in the middle of a region that the others wait for.

torch's wheels for Linux run every parallel region with GNU's OpenMP, whose threads spin for
milliseconds where a region ends. On a core that another process wants too, a spinning thread uses
up its share of the time, and then is not running when the next region needs it: on two cores, a
forward pass took 2.8 times as long beside one busy process as alone, and 5 times beside two. A
thread that sleeps after a tenth of a millisecond is woken at once, as it has time left: 2.3 and 2.5
times. With a tenth of that it is 1.9 and 2.2 times, but small images alone take a tenth longer.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

SPIN_COUNT = "10000"
_CHOICES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # by which users say how many
_chosen_by_user = next((name for name in _CHOICES if name in os.environ), None)


def sleep_when_waiting() -> bool:
    """Let threads sleep soon after they begin to wait; return whether this takes effect.

    OpenMP reads it when torch is loaded: it is too late afterwards, and a choice of the user
    (``GOMP_SPINCOUNT``, ``OMP_WAIT_POLICY``) is left as it is.
    """
    chosen = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
    if chosen or "torch" in sys.modules:
        return False
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    return True


def keep_to_quota() -> None:
    """Let torch have no more threads than the container has CPUs, unless the user says how many.

    The default is set for torch that is loaded later; in one that is there, a larger number of
    threads is lowered.
    """
    number = threads_of_quota()
    if number is None or _chosen_by_user:
        return
    torch = sys.modules.get("torch")
    if torch is None:
        os.environ["OMP_NUM_THREADS"] = str(number)
    elif torch.get_num_threads() > number:
        torch.set_num_threads(number)


def describe_threads() -> str:
    """Return the line by which a script says how many threads it has, and why; needs torch."""
    number = sys.modules["torch"].get_num_threads()
    if _chosen_by_user:
        why = f"{_chosen_by_user} says so"
    elif threads_of_quota() is not None:
        why = f"the container may use {cpu_quota():g} of {_allowed_cpus()} CPUs"
    else:
        why = f"this process may use {_allowed_cpus()} of {os.cpu_count()} CPUs"
    return f"Threads on the CPU: {number} ({why}; OMP_NUM_THREADS sets another number)"


def available_cpus() -> int:
    """Return how many processes or threads can run at a time, by affinity and quota."""
    quota = cpu_quota()
    return min(_allowed_cpus(), math.ceil(quota) if quota else sys.maxsize)


def threads_of_quota() -> int | None:
    """Return the quota as a number of threads, rounded up; None where there are no more cores
    anyway, whose number is the default of torch and onnxruntime."""
    quota = cpu_quota()
    number = math.ceil(quota) if quota else None
    return number if number and number < _allowed_cores() else None


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many CPUs the container may use on average; None where there is no limit.

    Args:
        root: of the file system whose proc and sys are read.
    """
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the limits of this process's control groups and of those around them."""
    with suppress(OSError):  # not Linux, or hidden
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                read, names = _quota_of_version_2, ("", "unified")
            elif "cpu" in controllers.split(","):
                read, names = _quota_of_version_1, (controllers, "cpu")
            else:
                continue
            # Inside of a container its own group is the outermost one that can be seen.
            inner = PurePosixPath(path.lstrip("/"))
            for name in names:
                for group in (inner, *inner.parents):
                    with suppress(OSError, ValueError):
                        quota, period = read(root / "sys/fs/cgroup" / name / group)
                        if quota > 0 and period > 0:
                            yield quota / period


def _quota_of_version_2(group: Path) -> tuple[int, int]:
    """Return microseconds of CPU time in each period, and the period; ValueError without limit."""
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota), int(period)


def _quota_of_version_1(group: Path) -> tuple[int, int]:
    quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(quota), int(period)


def _allowed_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _allowed_cores() -> int:
    """Return the number of cores that this process may run on; two CPUs can be one of them."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(path.read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)
