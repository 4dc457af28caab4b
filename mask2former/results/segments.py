"""A prediction as a list of named segments, all or some of them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formats.rle import bounding_box, encode_masks
from ..painting import Region
from .arrays import as_array
from .classes import class_name
from .regions import KINDS, class_colour, has_kind, object_colour, semantic_labels


@dataclass(frozen=True)
class Segment:
    """A part of an image that has a name.

    Attributes:
        number: tells it from the others of its kind, whatever else is switched off.
        name: of its class.
        score: of an instance, or of a panoptic segment that has one, in 0..1; else None.
        mask: (H, W), bool.
        area: in pixels, at least 1.
        colour: (3,), RGB in 0..1.
    """

    number: int
    name: str
    score: float | None
    mask: np.ndarray
    area: int
    colour: np.ndarray

    @property
    def title(self) -> str:
        """Name, score and area as a person reads them."""
        score = "" if self.score is None else f" {self.score:.0%}"
        return f"{self.name}{score}, {self.area:,} px"

    @property
    def region(self) -> Region:
        """What is painted of it."""
        score = "" if self.score is None else f" {self.score:.0%}"
        return Region(self.mask, self.colour, f"{self.name}{score}")

    def to_json(self) -> dict[str, Any]:
        """Return a dict with name, score, area, bbox (x, y, width, height) and segmentation, a
        compressed RLE."""
        (rle,) = encode_masks(self.mask[None])
        entry = {"id": self.number, "category": self.name, "score": self.score, "area": self.area}
        return entry | {"bbox": bounding_box(rle), "segmentation": rle}


Segments = dict[str, list[Segment]]  # by kind, large ones first


def segments_of(
    prediction: Mapping[str, Any],
    metadata: Mapping[str, Any],
    threshold: float = 0.0,
) -> Segments:
    """List the segments of each kind of result that a prediction has.

    Args:
        prediction: what a model for images returns for one.
        metadata: names and colours of the classes.
        threshold: least fraction of a pixel's best class in a semantic result, in 0..1.
    """
    readers = {
        "panoptic": lambda: _panoptic(prediction["panoptic_seg"], metadata),
        "instance": lambda: _instances(prediction["instances"], metadata),
        "semantic": lambda: _semantic(prediction["sem_seg"], metadata, threshold),
    }
    found = {kind: list(readers[kind]()) for kind in KINDS if has_kind(prediction, kind)}
    return {kind: sorted(some, key=lambda s: -s.area) for kind, some in found.items()}


def only(segments: Segments, on: Mapping[str, Collection[int]]) -> Segments:
    """Return the segments whose numbers are among those of their kind."""
    return {
        kind: [segment for segment in some if segment.number in on.get(kind, ())]
        for kind, some in segments.items()
    }


def reduced(
    prediction: Mapping[str, Any], segments: Segments, threshold: float = 0.0
) -> dict[str, Any]:
    """Return a prediction with some of its segments, for result files.

    Args:
        segments: that stay, of those that `segments_of` returns.
        threshold: as for `segments_of`.
    """
    kept: dict[str, Any] = {}
    numbers = {kind: [segment.number for segment in some] for kind, some in segments.items()}
    if "panoptic" in numbers:
        ids, infos = prediction["panoptic_seg"]
        ids = np.where(np.isin(as_array(ids), numbers["panoptic"]), as_array(ids), 0)
        kept["panoptic_seg"] = ids, [info for info in infos if info["id"] in numbers["panoptic"]]
    if "instance" in numbers:
        kept["instances"] = prediction["instances"][[n - 1 for n in sorted(numbers["instance"])]]
    if "semantic" in numbers:
        labels = as_array(semantic_labels(prediction["sem_seg"], threshold))
        kept["sem_seg"] = np.where(np.isin(labels, numbers["semantic"]), labels, -1)
    return kept


def _panoptic(result: Any, metadata: Mapping[str, Any]) -> Iterator[Segment]:
    ids = as_array(result[0])
    for segment in result[1]:
        number, label, is_thing = segment["id"], segment["category_id"], bool(segment["isthing"])
        colour = object_colour(number) if is_thing else class_colour(metadata, label)
        name = class_name(metadata, label, is_thing)
        yield from _segment(number, name, segment.get("score"), ids == number, colour)


def _instances(instances: Any, metadata: Mapping[str, Any]) -> Iterator[Segment]:
    columns = (instances.pred_classes.tolist(), instances.scores.tolist(), instances.pred_masks)
    for number, (label, score, mask) in enumerate(zip(*columns), start=1):
        name = class_name(metadata, label, True)
        yield from _segment(number, name, score, as_array(mask), object_colour(number))


def _semantic(result: Any, metadata: Mapping[str, Any], threshold: float) -> Iterator[Segment]:
    labels = as_array(semantic_labels(result, threshold))
    for label in np.unique(labels).tolist():
        if label >= 0:
            name, colour = class_name(metadata, label, False), class_colour(metadata, label)
            yield from _segment(label, name, None, labels == label, colour)


def _segment(
    number: int, name: str, score: float | None, mask: np.ndarray, colour: np.ndarray
) -> Iterator[Segment]:
    """Yield a segment unless it is empty."""
    area = int(np.count_nonzero(mask))
    if area:
        yield Segment(number, name, score, mask, area, colour)
