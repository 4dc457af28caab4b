"""What the check of a dataset prints."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...annotations.findings import Findings
from ...annotations.inventory import Inventory
from ...annotations.policy import POLICY
from .advice import recommend
from .records import SCALES, Meaning, Tally


@dataclass
class Report:
    """The outcome of a check.

    Attributes:
        name: of the dataset.
        meaning: None where it could not be read at all.
        tally: counts over all records.
        findings: all of them.
        empty: records without any object.
        records: how many there are.
        inventory: what is left, compared with what was annotated, where the reader tells.
    """

    name: str
    meaning: Meaning | None = None
    tally: Tally = field(default_factory=Tally)
    findings: Findings = field(default_factory=lambda: Findings(""))
    empty: int = 0
    records: int = 0
    inventory: Inventory | None = None

    @property
    def sound(self) -> bool:
        """Return whether training would not fail."""
        return not self.findings.of("refused")

    def _advice(self) -> dict[str, int]:
        return recommend(self.tally, self.meaning.kind) if self.meaning else {}

    def as_json(self) -> dict[str, Any]:
        """Return the outcome for machines."""
        classes = self.meaning.classes if self.meaning else []
        return {
            "dataset": self.name,
            "sound": self.sound,
            "images": sum(self.tally.sizes.values()),
            "objects": sum(self.tally.classes.values()),
            "crowd": self.tally.crowd,
            "classes": {name: self.tally.classes[i] for i, name in enumerate(classes)},
            "counts": dict(self.findings.counts),
            "assumed": dict(self.tally.notes),
            "recommended": self._advice(),
            "findings": [finding.as_json() for finding in self.findings],
        }

    def lines(self, limit: int) -> Iterator[str]:
        """Yield the report.

        Args:
            limit: findings of each code.
        """
        tally = self.tally
        assert self.meaning is not None
        photos, objects = sum(tally.sizes.values()), sum(tally.classes.values())
        yield f"{self.name}: {self.meaning.kind}, {len(self.meaning.classes)} classes"
        yield f"  {photos} images, {objects} objects or regions, {tally.crowd} crowd regions"
        yield f"  {self.empty} of {self.records} records without any object"
        counts = self.findings.counts
        fails = sum(n for code, n in counts.items() if POLICY[code].outcome == "refused")
        yield f"  findings: {fails} on which training fails, {len(self.findings) - fails} others"
        yield from finding_lines(self.findings, limit, "  ")
        yield from (f"  {count} photos: {note}" for note, count in tally.notes.most_common())
        if photos:
            yield from _sizes(tally)
            yield "  classes:"
            yield from _histogram(self.meaning, tally)
        if advice := self._advice():
            values = "  ".join(f"{key} {value}" for key, value in advice.items())
            yield f"  recommended: {values}"
        if self.inventory:
            yield "  what is left of what was annotated:"
            lines = self.inventory.lines(self.findings.left_out())
            yield from (f"    {line}" for line in lines)


def finding_lines(findings: Findings, limit: int, indent: str = "") -> Iterator[str]:
    """Yield the findings, refused ones first, ``limit`` of each code."""
    for title, refused in (("FAILS", True), ("note", False)):
        for code in findings.counts:
            if (POLICY[code].outcome == "refused") != refused:
                continue
            chosen = [finding for finding in findings if finding.code == code]
            for finding in chosen[:limit]:
                yield f"{indent}{title:<5}  {finding}"
            more = findings.counts[code] - limit
            if more > 0:
                yield f"{indent}...    and {more} more [{code}] (--limit shows more)"


def _sizes(total: Tally) -> Iterator[str]:
    sizes = total.sizes.most_common(5)
    listed = ", ".join(f"{width}x{height} ({count})" for (height, width), count in sizes)
    more = f" and {len(total.sizes) - 5} other sizes" if len(total.sizes) > 5 else ""
    yield f"  image sizes: {listed or 'none'}{more}"
    scales = ", ".join(f"{total.scales[name]} {name}" for name, _ in SCALES)
    yield f"  object sizes: {scales} (limits 32x32 and 96x96 pixels)"


def _histogram(meaning: Meaning, total: Tally) -> Iterator[str]:
    """Yield a line with a bar for each class that occurs, and a list of the others."""
    highest = max(total.classes.values(), default=1)
    names = dict(enumerate(meaning.classes))
    for category, count in total.classes.most_common():
        bar = "#" * max(1, round(40 * count / highest))
        yield f"    {names.get(category, category)!s:<24.24} {count:>8} {bar}"
    absent = [name for category, name in names.items() if category not in total.classes]
    if absent:
        more = f" and {len(absent) - 12} others" if len(absent) > 12 else ""
        yield f"    without any: {', '.join(absent[:12])}{more}"
