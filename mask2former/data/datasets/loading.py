"""How registered datasets are loaded: records for training, with what was found on the way."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...annotations.findings import Findings
from ...annotations.inventory import Inventory

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_SAMPLED = 50  # files that are looked into before a training starts


@dataclass
class Loaded:
    """A dataset that was read.

    Attributes:
        records: in detectron2's format.
        findings: what was irregular, and what became of it.
        inventory: what is left, compared with what was annotated; None where only a look at all
            records tells.
        content: makes json of the cleaned annotations in their form; None where they are no json.
        sample: looks into some of the files that the records name, for what only these tell.
    """

    records: Sequence[Record]
    findings: Findings = field(default_factory=lambda: Findings(""))
    inventory: Inventory | None = None
    content: Callable[[], dict[str, Any]] | None = None
    sample: Callable[[], Findings] | None = None

    def log(self, name: str) -> None:
        """Write what was found, and what is left, to the log."""
        for line in self.findings.summary():
            logger.warning("%s", line)
        if self.inventory:
            for line in self.inventory.lines(self.findings.left_out()):
                logger.info("%s: %s", name, line)


def some(records: Sequence[Record]) -> Sequence[Record]:
    """Return at most 50 records, evenly spread."""
    return records[:: -(-len(records) // _SAMPLED) or 1]


class Loader:
    """What is registered for a dataset whose annotations this package reads.

    Args:
        name: of the dataset, for the log.
        read: reads it; what is refused is among the findings.
    """

    def __init__(self, name: str, read: Callable[[], Loaded]):
        self._name = name
        self.read = read

    def __call__(self) -> Sequence[Record]:
        """Return the records.

        Raises:
            FileNotFoundError: a file or folder is missing.
            AnnotationError: something is refused; see ``annotations.POLICY``.
        """
        loaded = self.read()
        loaded.findings.raise_refused()
        loaded.log(self._name)
        return loaded.records


class FileLoader(Loader):
    """Load a dataset from the files that its metadata name; subclasses define ``_read``.

    Args:
        name: of the dataset.
        hint: what messages about missing files say on how to make them.
    """

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(name, self._read)
        self._hint = hint

    def _read(self) -> Loaded:
        raise NotImplementedError
