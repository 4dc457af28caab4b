"""Damaged files of every form: an error that says so, or a result; no crash and no endless wait.

A case is repeated by its seed, name and number: `subject.run(generator(seed, name, number), stem)`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture.fuzz.corpus import make_sound_files
from tests.torture.fuzz.subjects import SUBJECTS, Subject
from tests.torture.guard import Limits, run_cases

CASES = 20_000  # of all subjects together, in the short form


def generator(seed: int, name: str, number: int) -> random.Random:
    return random.Random(f"{seed} {name} {number}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz")
    make_sound_files(path)
    return path


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_damaged_files(subject: Subject, folder: Path, torture) -> None:
    count = torture.scaled(CASES * subject.share / sum(s.share for s in SUBJECTS))
    stem = folder / "case"

    def case(number: int) -> None:
        subject.run(generator(torture.seed, subject.name, number), stem)

    failures = run_cases(case, count, Limits())
    torture.record(
        "Fuzz", f"{subject.name}: an error that says what is wrong, or a result", count, failures
    )
