"""What readers find irregular in annotations, and the policy: taken, left out, or refused."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import UserError
from .policy import POLICY

# What becomes of an irregularity: its meaning is clear; one object or class cannot be used, the
# others can; its meaning is unclear, or nothing is left.
Outcome = Literal["taken", "left out", "refused"]

_LONGEST = 600  # characters of a text, whose facts may be of any length
_KEPT = 1000  # findings of a code that are kept one by one; more are counted


@dataclass(frozen=True)
class Finding:
    """One irregularity.

    Attributes:
        code: of the policy, see ``POLICY``.
        outcome: what became of it.
        file: in which it is.
        item: what it is about, such as "annotation 7"; empty for the whole file.
        text: what was found and done.
    """

    code: str
    outcome: Outcome
    file: str
    item: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.item}" if self.item else self.file
        return f"{where}: {self.text} [{self.code}]"

    def as_json(self) -> dict[str, str]:
        """Return its fields, for machines."""
        return asdict(self)


class AnnotationError(UserError):
    """Annotations that cannot be used.

    Attributes:
        findings: all that were made, those that are refused among them.
    """

    def __init__(self, findings: "Findings"):
        self.findings = findings
        lines = list(findings.summary("refused")) or list(findings.summary())
        more = f"; and {len(lines) - 3} other problems" * (len(lines) > 3)
        super().__init__("; ".join(lines[:3]) + more)


class Findings:
    """All findings of one file, grouped by code.

    Args:
        file: what the findings are in, unless they say otherwise.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.counts: Counter[str] = Counter()
        self._kept: dict[str, list[Finding]] = {}

    def add(self, code: str, item: str = "", *, file: str | None = None, **facts: Any) -> None:
        """Add one.

        Args:
            code: of the policy, whose text ``facts`` fill in.
            item: what it is about.
            file: where that is not the file as a whole.
        """
        self.counts[code] += 1
        kept = self._kept.setdefault(code, [])
        if len(kept) < _KEPT:
            rule = POLICY[code]
            text = f"{rule.text.format(**facts):.{_LONGEST}}"
            kept.append(Finding(code, rule.outcome, file or self.file, item, text))

    def __iter__(self) -> Iterator[Finding]:
        """Yield those that are kept, a code after the other."""
        for kept in self._kept.values():
            yield from kept

    def __len__(self) -> int:
        return self.counts.total()

    def of(self, outcome: Outcome) -> list[Finding]:
        """Return those that are kept, of one outcome."""
        return [finding for finding in self if finding.outcome == outcome]

    def left_out(self) -> dict[str, int]:
        """Return how many items were left out, by code."""
        return {c: n for c, n in self.counts.items() if POLICY[c].outcome == "left out"}

    def update(self, other: "Findings", outcome: Outcome | None = None) -> None:
        """Add those of another file or part, all of them or those of one outcome."""
        for code, kept in other._kept.items():
            if outcome in (None, POLICY[code].outcome):
                self.counts[code] += other.counts[code]
                mine = self._kept.setdefault(code, [])
                mine += kept[: _KEPT - len(mine)]

    def raise_refused(self, but: Collection[str] = ()) -> None:
        """Raise an AnnotationError where anything is refused, by other codes than those of ``but``.

        Scoring goes on where there is nothing to learn from: "all-crowd".
        """
        if any(finding.code not in but for finding in self.of("refused")):
            raise AnnotationError(self)

    def summary(self, outcome: Outcome | None = None) -> Iterator[str]:
        """Yield a line for each code: the first finding, and how many more there are."""
        for code, kept in self._kept.items():
            if outcome not in (None, POLICY[code].outcome):
                continue
            more = self.counts[code] - 1
            yield f"{kept[0]}" + f" and {more} more of this kind" * (more > 0)


def some(items: Sequence[str], limit: int = 12) -> str:
    """Return the first items of a list for a message, and how many more there are."""
    more = f" and {len(items) - limit} more" * (len(items) > limit)
    return ", ".join(items[:limit]) + more
