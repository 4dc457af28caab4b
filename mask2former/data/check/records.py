"""Check one record of a dataset: its files, sizes, masks and categories."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ...formats.images import check_size, read_image
from ...formats.label_maps import read_labels, read_panoptic_png
from ...formats.segmentations import describe, draw_mask, valid_polygons

Kind = Literal["instance", "panoptic", "semantic", "video"]
Record = Mapping[str, Any]
Size = tuple[int, int]  # H, W in pixels

# COCO's, by the area in pixels that they stay below.
SCALES = (("small", 32**2), ("medium", 96**2), ("large", float("inf")))


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        fails: whether training fails on it.
        where: the file.
        text: what is wrong, with the id.
    """

    fails: bool
    where: str
    text: str


@dataclass(frozen=True)
class Meaning:
    """What the numbers in a dataset mean.

    Attributes:
        num_classes: K; categories are 0 to K - 1.
        sem_seg_labels: the numbers of the classes in semantic maps; None for 0 to K - 1.
        ignore_label: the number there of pixels without a class.
    """

    num_classes: int
    sem_seg_labels: Sequence[int] | None = None
    ignore_label: int = 255


@dataclass
class Tally:
    """What was found in a record or in several.

    Attributes:
        findings: in the order in which they came up.
        sizes: numbers of photos by size.
        classes: numbers of objects or regions by class, crowd apart.
        scales: the same by area; in videos by the mean area over the frames.
        crowd: number of crowd regions.
    """

    findings: list[Finding] = field(default_factory=list)
    sizes: Counter[Size] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    scales: Counter[str] = field(default_factory=Counter)
    crowd: int = 0

    @property
    def fails(self) -> bool:
        """Return whether training would fail."""
        return any(finding.fails for finding in self.findings)

    def add(self, other: "Tally") -> None:
        """Add what was found elsewhere."""
        self.findings += other.findings
        self.sizes += other.sizes
        self.classes += other.classes
        self.scales += other.scales
        self.crowd += other.crowd


def check_record(record: Record, kind: Kind, meaning: Meaning) -> Tally:
    """Read all files of a record in detectron2's format and return what was found.

    Categories may be None where whoever read the json has reported an unknown one.
    """
    return _RecordCheck(meaning).run(record, kind)


class _RecordCheck:
    """Checks a record; what it finds is in ``tally``."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning = meaning
        self.tally = Tally()

    def run(self, record: Record, kind: Kind) -> Tally:
        if kind == "video":
            sizes = [self._check_photo(record, path) for path in record["file_names"]]
            self._check_tracks(record, next(filter(None, sizes), None))
            return self.tally
        size = self._check_photo(record, record["file_name"])
        if kind == "instance":
            self._check_objects(record, size)
        elif kind == "panoptic":
            self._check_segments(record, size)
        if "sem_seg_file_name" in record:
            self._check_labels(record, size, count=kind == "semantic")
        return self.tally

    def _add(self, fails: bool, where: str, text: str) -> None:
        self.tally.findings.append(Finding(fails, where, text.removeprefix(f"{where}: ")))

    def _read(self, read: Callable[[str], np.ndarray], path: str) -> np.ndarray | None:
        try:
            return read(path)
        except (OSError, ValueError) as error:
            self._add(True, path, str(error))
            return None

    def _fits(self, record: Record, size: tuple[int, ...], path: str) -> bool:
        try:
            check_size(record, size, path)
        except ValueError as error:
            self._add(True, path, str(error))
            return False
        return True

    def _check_photo(self, record: Record, path: str) -> Size | None:
        """Return the size of the photo, None where it cannot be used."""
        image = self._read(read_image, path)
        if image is None:
            return None
        size = (image.shape[0], image.shape[1])
        self.tally.sizes[size] += 1
        return size if self._fits(record, size, path) else None

    def _count(self, category: int | None, area: int, where: str, name: str, crowd: Any) -> None:
        num_classes = self.meaning.num_classes
        if crowd:
            self.tally.crowd += 1
        elif category is not None:
            self.tally.classes[category] += 1
            self.tally.scales[next(name for name, limit in SCALES if area < limit)] += 1
        if category is not None and not 0 <= category < num_classes:
            self._add(True, where, f"{name} has class {category}, expected 0 to {num_classes - 1}")

    def _check_objects(self, record: Record, size: Size | None) -> None:
        where = record["file_name"]
        for i, annotation in enumerate(record["annotations"]):
            area = self._area(annotation, i, size or _size(record), where)
            if area is not None:
                name, crowd = describe(annotation, i), annotation.get("iscrowd", 0)
                self._count(annotation["category_id"], area, where, name, crowd)

    def _area(self, annotation: Record, index: int, size: Size | None, where: str) -> int | None:
        """Return the area of a mask in pixels; None, with a finding, where it is of no use."""
        if size is None:
            return None  # its photo cannot be read, which was reported
        name = describe(annotation, index)
        try:
            polygons = valid_polygons(annotation, index)
            area = int(draw_mask(annotation, index, size).sum())
        except ValueError as error:
            self._add(True, where, str(error))
            return None
        if polygons is not None and len(polygons) < max(len(annotation["segmentation"]), 1):
            left = "the others stay" if polygons else "it is left out"
            self._add(False, where, f"{name} has a polygon with fewer than 3 points; {left}")
        elif area == 0:
            self._add(False, where, f"{name} covers no pixel of the image")
        return area if polygons is None or polygons else None

    def _check_segments(self, record: Record, size: Size | None) -> None:
        path, segments = record["pan_seg_file_name"], record["segments_info"]
        ids = self._read(read_panoptic_png, path)
        if ids is None or not self._fits(_as_record(size), ids.shape, path):
            return
        found = dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True))))
        found.pop(0, None)
        listed = Counter(segment["id"] for segment in segments)
        for i in sorted(listed.keys() | found.keys()):
            if listed[i] > 1:
                self._add(True, path, f"segment {i} is listed {listed[i]} times")
            if i not in found:
                self._add(True, path, f"segment {i} is listed and has no pixel")
            if not listed[i]:
                self._add(True, path, f"segment {i} has {found[i]} pixels and is not listed")
        for segment in segments:
            name, area = f"segment {segment['id']}", found.get(segment["id"], 0)
            if segment.get("area", area) != area:
                text = f"{name} has {area} pixels, the json says {segment['area']}"
                self._add(False, path, text)
            self._count(segment["category_id"], area, path, name, segment.get("iscrowd", 0))

    def _check_labels(self, record: Record, size: Size | None, *, count: bool) -> None:
        path, meaning = record["sem_seg_file_name"], self.meaning
        labels = self._read(read_labels, path)
        if labels is None or not self._fits(_as_record(size), labels.shape, path):
            return
        pixels = np.bincount(labels.reshape(-1))
        found = [
            label for label in np.flatnonzero(pixels).tolist() if label != meaning.ignore_label
        ]
        numbers = meaning.sem_seg_labels or range(meaning.num_classes)
        indices = {number: i for i, number in enumerate(numbers)}
        unknown = [label for label in found if label not in indices]
        if unknown:
            text = f"has the labels {', '.join(map(str, unknown))}, which "
            if meaning.sem_seg_labels is None:
                text += f"are no class from 0 to {meaning.num_classes - 1} and not the label "
                text += f"{meaning.ignore_label} to be ignored"
            else:
                text += "are no class and will be ignored"
            self._add(meaning.sem_seg_labels is None, path, text)
        if len(unknown) == len(found):
            self._add(False, path, "has no pixel with a class")
        for label in found if count else ():
            if label in indices:
                self._count(indices[label], int(pixels[label]), path, "", 0)

    def _check_tracks(self, record: Record, size: Size | None) -> None:
        where = f"video {record['video_id']} ({record['file_names'][0]}, ...)"
        for i, track in enumerate(record["annotations"]):
            name = describe(track, i)
            seen = [area for area in self._areas(track, i, size or _size(record), where) if area]
            if not seen:
                self._add(False, where, f"{name} is seen in no frame")
            mean = round(sum(seen) / max(len(seen), 1))
            self._count(track["category_id"], mean, where, name, track.get("iscrowd", 0))

    def _areas(self, track: Record, index: int, size: Size | None, where: str) -> Iterator[Any]:
        for frame, segmentation in enumerate(track["segmentations"]):
            if segmentation:
                annotation = {"id": track["id"], "segmentation": segmentation}
                yield self._area(annotation, index, size, f"{where}, frame {frame}")


def _size(record: Record) -> Size | None:
    """Return the size that the annotations give, where they do."""
    return (record["height"], record["width"]) if "height" in record else None


def _as_record(size: Size | None) -> Record:
    return {"height": size[0], "width": size[1]} if size else {}
