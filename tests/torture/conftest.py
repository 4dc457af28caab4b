"""The seed, the length and the table of the torture tests.

TORTURE_SEED=7 chooses other cases (0 by default); TORTURE=1 asks for the long form, as
`make torture` does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

LONG = 20  # times as many cases as in the short form


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
