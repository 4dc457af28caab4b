"""The number of threads, by quotas of made-up containers, and how they wait.

What OpenMP reads once is tested in processes of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mask2former import threads

SHOW = "import os; print(os.environ.get('GOMP_SPINCOUNT'))"


def printed(code: str, **environment: str) -> str:
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    clean = {k: v for k, v in os.environ.items() if k not in ours}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=clean | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_threads_sleep_soon_where_the_package_is_imported_before_torch() -> None:
    assert printed(f"import mask2former; {SHOW}") == "10000"


@pytest.mark.parametrize(
    ("code", "environment", "expected"),
    [
        (f"import torch, mask2former; {SHOW}", {}, "None"),
        (f"import mask2former; {SHOW}", {"GOMP_SPINCOUNT": "7"}, "7"),
        (f"import mask2former; {SHOW}", {"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ],
    ids=["too-late", "spin-count-of-the-user", "policy-of-the-user"],
)
def test_nothing_is_changed_that_was_chosen_or_comes_too_late(
    code: str, environment: dict[str, str], expected: str
) -> None:
    assert printed(code, **environment) == expected


def system(root: Path, groups: str, **files: str) -> Path:
    """Write the files of a system under ``root``; "__" in their names stands for a slash."""
    for name, text in ({"proc__self__cgroup": groups} | files).items():
        path = root / name.replace("__", "/").replace("cpu_max", "cpu.max").replace(
            "cfs", "cpu.cfs"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"sys__fs__cgroup__cpu_max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"sys__fs__cgroup__cpu_max": "max 100000\n"}, None),
        ("0::/\n", {}, None),  # the root of a machine has none
        (
            "0::/a/b\n",
            {
                "sys__fs__cgroup__a__b__cpu_max": "max 100000\n",
                "sys__fs__cgroup__a__cpu_max": "50000 10000\n",  # of a group around it
                "sys__fs__cgroup__cpu_max": "800000 100000\n",
            },
            5,
        ),
        (
            "0::/host/path/that/is/not/seen/inside\n",
            {"sys__fs__cgroup__cpu_max": "200000 100000\n"},
            2,
        ),
        (
            "4:memory:/x\n3:cpu,cpuacct:/docker/1\n",
            {
                "sys__fs__cgroup__cpu,cpuacct__cfs_quota_us": "250000\n",
                "sys__fs__cgroup__cpu,cpuacct__cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            "2:cpuacct:/\n1:cpu:/a\n0::/\n",
            {
                "sys__fs__cgroup__cpu__cfs_quota_us": "-1\n",
                "sys__fs__cgroup__cpu__cfs_period_us": "100000\n",
                "sys__fs__cgroup__cpu__a__cfs_quota_us": "20000\n",
                "sys__fs__cgroup__cpu__a__cfs_period_us": "100000\n",
            },
            0.2,
        ),
        ("0::/\n", {"sys__fs__cgroup__cpu_max": "damaged\n"}, None),
    ],
)
def test_quota_of_containers(tmp_path, groups, files, quota) -> None:
    assert threads.cpu_quota(system(tmp_path, groups, **files)) == quota


def test_no_quota_without_control_groups(tmp_path) -> None:
    assert threads.cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "cores", "expected"),
    [(None, 8, None), (0.2, 8, 1), (1.5, 8, 2), (7.5, 8, None), (8, 8, None), (64, 8, None)],
)
def test_threads_are_as_many_as_the_quota_begins(monkeypatch, quota, cores, expected) -> None:
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    monkeypatch.setattr(threads, "_allowed_cores", lambda: cores)
    assert threads.threads_of_quota() == expected


def test_affinity_and_quota_bound_the_processes(monkeypatch) -> None:
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: 4)
    for quota, expected in ((None, 4), (2.5, 3), (9, 4), (0.1, 1)):
        monkeypatch.setattr(threads, "cpu_quota", lambda quota=quota: quota)
        assert threads.available_cpus() == expected


QUOTA = """
from pathlib import Path
import mask2former.threads as t
t.cpu_quota, t._allowed_cores = (lambda: 0.5), (lambda: 8)
t.keep_to_quota()
import torch
t._allowed_cpus = lambda: 16
print(torch.get_num_threads(), t.describe_threads())
"""


@pytest.mark.parametrize(
    ("environment", "number", "why"),
    [
        ({}, 1, "the container may use 0.5 of 16 CPUs"),
        ({"OMP_NUM_THREADS": "2"}, min(2, os.cpu_count()), "OMP_NUM_THREADS says so"),
    ],
)
def test_the_default_follows_the_quota_and_the_user_wins(environment, number, why) -> None:
    said = printed(QUOTA, **environment)
    assert said.startswith(f"{number} Threads on the CPU: {number} ({why};"), said


def test_torch_that_is_loaded_has_no_more_threads_than_the_quota(monkeypatch) -> None:
    monkeypatch.setattr(threads, "_chosen_by_user", None)
    monkeypatch.setattr(threads, "threads_of_quota", lambda: 2)
    before = torch.get_num_threads()
    try:
        for had, has in ((3, 2), (1, 1)):
            torch.set_num_threads(had)
            threads.keep_to_quota()
            assert torch.get_num_threads() == has
    finally:
        torch.set_num_threads(before)


def test_without_a_quota_torch_chooses() -> None:
    code = "import mask2former, os; print(os.environ.get('OMP_NUM_THREADS'))"
    assert printed(code) == str(threads.threads_of_quota())
