"""The seed, the length and the table of the torture tests.

TORTURE_SEED=7 chooses other cases (0 by default); TORTURE=1 asks for the long form, as
`make torture` does. TORTURE_TABLE=docs/reliability.md writes the table there, between its marks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LONG = 20  # times as many cases as in the short form
_MARKS = ("<!-- written by make torture -->\n", "<!-- end -->\n")


@dataclass
class Torture:
    """What the tests ask for and where they leave their results.

    Attributes:
        seed: of all random choices.
        long: whether this is the long form.
    """

    seed: int
    long: bool
    request: pytest.FixtureRequest

    def scaled(self, count: float) -> int:
        """Return how many cases to try of which the short form has ``count``."""
        return round(count * (LONG if self.long else 1))

    def record(self, topic: str, promise: str, cases: int, failures: Sequence[str]) -> None:
        """Note the outcome for the table, and fail the test where there are failures."""
        row = {"topic": topic, "promise": promise, "cases": cases, "failures": len(failures)}
        self.request.node.user_properties.append(("torture", row))
        if failures:
            shown = "\n\n".join(failures[:10])
            pytest.fail(f"{len(failures)} of {cases} (seed {self.seed}):\n{shown}", pytrace=False)


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> Torture:
    seed, is_long = os.environ.get("TORTURE_SEED", "0"), os.environ.get("TORTURE") == "1"
    return Torture(int(seed), is_long, request)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if os.environ.get("TORTURE") == "1" and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1500))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for state in ("passed", "failed") for r in terminalreporter.getreports(state)]
    rows: dict[tuple[str, str], list[int]] = {}
    for report in reports:
        for name, row in report.user_properties if report.when == "call" else ():
            if name == "torture":
                total = rows.setdefault((row["topic"], row["promise"]), [0, 0])
                total[0] += row["cases"]
                total[1] += row["failures"] or report.failed
    if not rows or os.environ.get("TORTURE") != "1":
        return
    table = "\n".join(_lines(rows.items()))
    terminalreporter.section(f"torture, seed {os.environ.get('TORTURE_SEED', '0')}")
    terminalreporter.write(table + "\n")
    if path := os.environ.get("TORTURE_TABLE"):
        before, _, rest = Path(path).read_text().partition(_MARKS[0])
        Path(path).write_text(
            f"{before}{_MARKS[0]}\n{table}\n\n{_MARKS[1]}{rest.partition(_MARKS[1])[2]}"
        )


def _lines(rows: Iterable[tuple[tuple[str, str], list[int]]]) -> Iterable[str]:
    yield "| topic | what is promised | cases | failures |"
    yield "|---|---|--:|--:|"
    for (topic, promise), (cases, failures) in sorted(rows):
        yield f"| {topic} | {promise} | {cases:,} | {failures} |"
