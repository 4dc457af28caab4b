"""Check one record of a dataset: its files, sizes, masks and categories."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self

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
    """What the records and numbers of a dataset mean.

    Attributes:
        kind: of its annotations.
        classes: names of the K classes; categories are 0 to K - 1.
        sem_seg_labels: the numbers of the classes in semantic maps; None for 0 to K - 1.
        ignore_label: the number there of pixels without a class.
    """

    kind: Kind
    classes: Sequence[str]
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

    def add(self, other: Self) -> None:
        """Add what was found elsewhere."""
        self.findings += other.findings
        self.sizes += other.sizes
        self.classes += other.classes
        self.scales += other.scales
        self.crowd += other.crowd


def check_record(record: Record, meaning: Meaning) -> Tally:
    """Read all files of a record in detectron2's format and return what was found.

    Categories may be None where whoever read the json has reported an unknown one.
    """
    check = _RecordCheck(meaning)
    if meaning.kind == "video":
        sizes = [check.photo(record, path) for path in record["file_names"]]
        check.tracks(record, next(filter(None, sizes), None))
        return check.tally
    size = check.photo(record, record["file_name"])
    if meaning.kind == "instance":
        check.objects(record, size)
    elif meaning.kind == "panoptic":
        check.segments(record, size)
    if "sem_seg_file_name" in record:
        check.labels(record, size)
    return check.tally


class _RecordCheck:
    """Check the parts of a record; what it finds is in ``tally``."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning = meaning
        self.tally = Tally()

    def _add(self, fails: bool, where: str, text: str) -> None:
        self.tally.findings.append(Finding(fails, where, text.removeprefix(f"{where}: ")))

    @contextmanager
    def _reporting(self, where: str) -> Iterator[None]:
        """End the block at its first error, which is a finding."""
        try:
            yield
        except (OSError, ValueError) as error:
            self._add(True, where, str(error))

    def photo(self, record: Record, path: str) -> Size | None:
        """Return the size of the photo, None where it cannot be used."""
        with self._reporting(path):
            height, width = read_image(path).shape[:2]
            self.tally.sizes[height, width] += 1
            check_size(record, (height, width), path)
            return height, width
        return None

    def _count(self, category: int | None, area: int, where: str, name: str, crowd: Any) -> None:
        num_classes = len(self.meaning.classes)
        if crowd:
            self.tally.crowd += 1
        elif category is not None:
            self.tally.classes[category] += 1
            self.tally.scales[next(name for name, limit in SCALES if area < limit)] += 1
        if category is not None and not 0 <= category < num_classes:
            self._add(True, where, f"{name} has class {category}, expected 0 to {num_classes - 1}")

    def objects(self, record: Record, size: Size | None) -> None:
        """Check the annotations of an image; ``size`` is that of its photo."""
        where = record["file_name"]
        for i, annotation in enumerate(record["annotations"]):
            area = self._area(annotation, i, size or _size(record), where)
            if area is not None:
                name, crowd = describe(annotation, i), annotation.get("iscrowd", 0)
                self._count(annotation["category_id"], area, where, name, crowd)

    def tracks(self, record: Record, size: Size | None) -> None:
        """Check the annotations of a video; ``size`` is that of its frames."""
        where = f"video {record['video_id']} ({record['file_names'][0]}, ...)"
        size = size or _size(record)
        for i, track in enumerate(record["annotations"]):
            areas = [
                self._area({**track, "segmentation": mask}, i, size, f"{where}, frame {frame}")
                for frame, mask in enumerate(track["segmentations"])
                if mask
            ]
            seen = [area for area in areas if area]
            name = describe(track, i)
            if not seen:
                self._add(False, where, f"{name} is seen in no frame")
            mean = round(sum(seen) / max(len(seen), 1))
            self._count(track["category_id"], mean, where, name, track.get("iscrowd", 0))

    def _area(self, annotation: Record, index: int, size: Size | None, where: str) -> int | None:
        """Return the area of a mask in pixels; None, with a finding, where it is of no use."""
        if size is None:
            return None  # its photo cannot be read, which was reported
        name = describe(annotation, index)
        with self._reporting(where):
            polygons = valid_polygons(annotation, index)
            area = int(draw_mask(annotation, index, size).sum())
            if polygons is not None and len(polygons) < max(len(annotation["segmentation"]), 1):
                left = "the others stay" if polygons else "it is left out"
                self._add(False, where, f"{name} has a polygon with fewer than 3 points; {left}")
            elif area == 0:
                self._add(False, where, f"{name} covers no pixel of the image")
            return area if polygons is None or polygons else None
        return None

    def segments(self, record: Record, size: Size | None) -> None:
        """Compare the panoptic map of an image with its segments in the json."""
        path, segments = record["pan_seg_file_name"], record["segments_info"]
        with self._reporting(path):
            ids = read_panoptic_png(path)
            check_size(_as_record(size), ids.shape, path)
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

    def labels(self, record: Record, size: Size | None) -> None:
        """Check the label map of an image, and count its classes where it has nothing else."""
        path, meaning = record["sem_seg_file_name"], self.meaning
        with self._reporting(path):
            labels = read_labels(path)
            check_size(_as_record(size), labels.shape, path)
            pixels = np.bincount(labels.reshape(-1))
            found = set(np.flatnonzero(pixels).tolist()) - {meaning.ignore_label}
            numbers = meaning.sem_seg_labels or range(len(meaning.classes))
            indices = {number: i for i, number in enumerate(numbers)}
            if unknown := sorted(found - indices.keys()):
                text = f"has the labels {', '.join(map(str, unknown))}, which are no class "
                if meaning.sem_seg_labels is None:
                    text += f"from 0 to {len(meaning.classes) - 1} and not the label "
                    text += f"{meaning.ignore_label} to be ignored"
                else:
                    text += "and will be ignored"
                self._add(meaning.sem_seg_labels is None, path, text)
            if not found & indices.keys():
                self._add(False, path, "has no pixel with a class")
            if meaning.kind == "semantic":
                for label in sorted(found & indices.keys()):
                    self._count(indices[label], int(pixels[label]), path, "", 0)


def _size(record: Record) -> Size | None:
    """Return the size that the annotations give, where they do."""
    return (record["height"], record["width"]) if "height" in record else None


def _as_record(size: Size | None) -> Record:
    return {"height": size[0], "width": size[1]} if size else {}
