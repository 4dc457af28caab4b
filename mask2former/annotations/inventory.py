"""What is left of a dataset to learn from, compared with what was annotated."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .findings import AnnotationError, Findings, some


@dataclass
class Inventory:
    """Counts of one dataset.

    Attributes:
        classes: their names.
        images: number of images or videos.
        annotated: objects in the file by class, crowd and unusable ones among them; None where
            only the pixels tell.
        kept: objects that are left by class.
        crowd: objects that are left and are crowd, which are not in ``kept``.
    """

    classes: Sequence[str]
    images: int = 0
    annotated: Counter[str] | None = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    crowd: int = 0

    def lines(self, left_out: Mapping[str, int]) -> Iterator[str]:
        """Yield the comparison as text.

        Args:
            left_out: how many objects were left out, by the code of the reason.
        """
        yield f"{self.images} images, {len(self.classes)} classes"
        if self.annotated is None:
            return
        reasons = "".join(f", {count} left out ({code})" for code, count in left_out.items())
        yield (
            f"{self.annotated.total()} objects annotated: {self.kept.total()} to learn from, "
            f"{self.crowd} crowd{reasons}"
        )
        changed = [
            f"{name} {self.kept[name]} of {self.annotated[name]}"
            for name in self.classes
            if 0 < self.kept[name] < self.annotated[name]
        ]
        if changed:
            yield f"of some classes objects are left out: {some(changed)}"
        absent = [name for name in self.classes if not self.kept[name]]
        if absent:
            yield f"classes without any object: {some(absent)}"

    def require_objects(self, findings: Findings) -> None:
        """Raise where there is nothing to learn from.

        Raises:
            AnnotationError: no object is left that is not crowd; says why.
        """
        findings.raise_refused()
        if self.annotated is None or self.kept:
            return
        if not self.annotated:
            findings.add("no-annotations")
            raise AnnotationError(findings)
        reasons = [f"{count} left out ({code})" for code, count in findings.left_out().items()]
        findings.add(
            "no-objects",
            annotated=self.annotated.total(),
            reasons=", ".join([f"{self.crowd} crowd", *reasons]),
        )
        raise AnnotationError(findings)
