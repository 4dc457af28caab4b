"""Tests of the waiting of threads, each in a process of its own, as OpenMP reads it once."""

import os
import subprocess
import sys

import pytest

SHOW = "import os; print(os.environ.get('GOMP_SPINCOUNT'))"


def printed(code: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=clean | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_threads_sleep_soon_where_the_package_is_imported_before_torch() -> None:
    assert printed(f"import mask2former; {SHOW}") == "1000"


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
