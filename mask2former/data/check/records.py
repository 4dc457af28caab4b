"""Check one record of a dataset: its files, sizes, masks and categories."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ...annotations.findings import Findings
from ...annotations.readers.label_maps import LabelMeaning, check_labels
from ...annotations.readers.panoptic import compare_segments
from ...annotations.repair import area_contradicts
from ...errors import UserError
from ...formats.images import check_size, read_photo
from ...formats.label_maps import count_values, read_labels, read_panoptic_png
from ...formats.segmentations import describe, draw_mask

Kind = Literal["instance", "panoptic", "semantic", "video"]
Record = Mapping[str, Any]
Size = tuple[int, int]  # H, W in pixels

# COCO's, by the area in pixels that they stay below.
SCALES = (("small", 32**2), ("medium", 96**2), ("large", float("inf")))


@dataclass(frozen=True)
class Meaning:
    """What the records and numbers of a dataset mean.

    Attributes:
        kind: of its annotations.
        classes: names of the K classes; categories are 0 to K - 1.
        sem_seg_labels: the numbers of the classes in semantic maps; None for 0 to K - 1.
        ignore_label: the number there of pixels without a class.
        label_classes: names of those in semantic maps, where they are others.
        exif_rotation: whether photos are turned, see `read_photo`.
    """

    kind: Kind
    classes: Sequence[str]
    sem_seg_labels: Sequence[int] | None = None
    ignore_label: int = 255
    label_classes: Sequence[str] | None = None
    exif_rotation: bool = True

    @property
    def of_labels(self) -> LabelMeaning:
        """Return what the numbers in label maps mean."""
        classes = self.label_classes or self.classes
        return LabelMeaning(classes, self.ignore_label, self.sem_seg_labels)


@dataclass
class Tally:
    """What was found in a record or in several.

    Attributes:
        findings: what only a look at the files shows.
        sizes: numbers of photos by size.
        classes: numbers of objects or regions by class, crowd apart.
        scales: the same by area; in videos by the mean area over the frames.
        counts: numbers of records by how many objects or regions they have.
        sides: numbers of objects by the root of their area, in thousandths of the photo's longer
            side.
        crowd: number of crowd regions.
        notes: what reading photos assumed, with the number of photos; see `read_photo`.
        labels: in how many label maps each number occurs, where these are the annotations.
        label_maps: how many of them there are.
    """

    findings: Findings = field(default_factory=lambda: Findings(""))
    sizes: Counter[Size] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    scales: Counter[str] = field(default_factory=Counter)
    counts: Counter[int] = field(default_factory=Counter)
    sides: Counter[int] = field(default_factory=Counter)
    crowd: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    label_maps: int = 0

    @property
    def fails(self) -> bool:
        """Return whether training would fail."""
        return bool(self.findings.of("refused"))

    def add(self, other: Self) -> None:
        """Add what was found elsewhere."""
        self.findings.update(other.findings)
        self.sizes += other.sizes
        self.classes += other.classes
        self.scales += other.scales
        self.counts += other.counts
        self.sides += other.sides
        self.crowd += other.crowd
        self.notes += other.notes
        self.labels += other.labels
        self.label_maps += other.label_maps


def check_record(record: Record, meaning: Meaning) -> Tally:
    """Read all files of a record in detectron2's format and return what was found.

    Categories may be None where whoever read the json has reported an unknown one.
    """
    check = _RecordCheck(meaning)
    _check_parts(check, record, meaning)
    check.tally.counts[check.tally.classes.total()] += 1
    return check.tally


def _check_parts(check: "_RecordCheck", record: Record, meaning: Meaning) -> None:
    if meaning.kind == "video":
        sizes = [check.photo(record, path) for path in record["file_names"]]
        check.tracks(record, next(filter(None, sizes), None))
        return
    size = check.photo(record, record["file_name"])
    if meaning.kind == "instance":
        check.objects(record, size)
    elif meaning.kind == "panoptic":
        check.segments(record, size)
    if "sem_seg_file_name" in record:
        check.labels(record, size)


class _RecordCheck:
    """Check the parts of a record; what it finds is in ``tally``."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning = meaning
        self.tally = Tally()
        self._longer_side = 0  # of the photo that was read last, in pixels

    def _add(self, code: str, where: str, item: str = "", **facts: Any) -> None:
        self.tally.findings.add(code, item, file=where, **facts)

    @contextmanager
    def _reporting(self, where: str) -> Iterator[None]:
        """End the block at its first error, which is a finding."""
        try:
            yield
        except (OSError, UserError) as error:
            text = str(error).removeprefix(f"{where}: ")
            self._add("file-unusable", where, problem=text)

    def photo(self, record: Record, path: str) -> Size | None:
        """Return the size of the photo, None where it cannot be used."""
        with self._reporting(path):
            turns = self.meaning.exif_rotation
            pixels, notes = read_photo(path, record=record, exif_rotation=turns)
            height, width = pixels.shape[:2]
            self.tally.notes.update(notes)
            self.tally.sizes[height, width] += 1
            self._longer_side = max(height, width)
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
            if self._longer_side:
                self.tally.sides[round(1000 * area**0.5 / self._longer_side)] += 1
        if category is not None and not 0 <= category < num_classes:
            self._add("class-out-of-range", where, name, category=category, last=num_classes - 1)

    def objects(self, record: Record, size: Size | None) -> None:
        """Check the annotations of an image; ``size`` is that of its photo."""
        where = record["file_name"]
        for i, annotation in enumerate(record["annotations"]):
            area = self._area(annotation, i, size, where)
            if area is not None:
                self._compare_area(annotation, i, area, where)
                name, crowd = describe(annotation, i), annotation.get("iscrowd", 0)
                self._count(annotation["category_id"], area, where, name, crowd)

    def tracks(self, record: Record, size: Size | None) -> None:
        """Check the annotations of a video; ``size`` is that of its frames."""
        where = f"video {record['video_id']} ({record['file_names'][0]}, ...)"
        for i, track in enumerate(record["annotations"]):
            areas = [
                self._area({**track, "segmentation": mask}, i, size, f"{where}, frame {frame}")
                for frame, mask in enumerate(track["segmentations"])
                if mask
            ]
            seen = [area for area in areas if area]
            name = describe(track, i)
            mean = round(sum(seen) / max(len(seen), 1))
            self._count(track["category_id"], mean, where, name, track.get("iscrowd", 0))

    def _area(self, annotation: Record, index: int, size: Size | None, where: str) -> int | None:
        """Return the area of a mask in pixels; None, with a finding, where it is of no use."""
        if size is None:
            return None  # its photo cannot be read, which was reported
        with self._reporting(where):
            area = int(draw_mask(annotation, index, size).sum())
            if area == 0:
                self._add("mask-empty", where, describe(annotation, index))
            return area
        return None

    def _compare_area(self, annotation: Record, index: int, pixels: int, where: str) -> None:
        area = annotation.get("area")
        if area is not None and area_contradicts(area, pixels):
            self._add(
                "area-contradicts", where, describe(annotation, index), area=area, pixels=pixels
            )

    def segments(self, record: Record, size: Size | None) -> None:
        """Compare the panoptic map of an image with its segments in the json."""
        path, segments = record["pan_seg_file_name"], record["segments_info"]
        with self._reporting(path):
            ids = read_panoptic_png(path)
            check_size(_as_record(size), ids.shape, path)
            areas = compare_segments(ids, segments, path, self.tally.findings)
            for segment in segments:
                name, area = f"segment {segment['id']}", areas[segment["id"]]
                self._count(segment["category_id"], area, path, name, segment.get("iscrowd", 0))

    def labels(self, record: Record, size: Size | None) -> None:
        """Check the label map of an image, and count its classes where it has nothing else."""
        path, meaning = record["sem_seg_file_name"], self.meaning
        with self._reporting(path):
            labels = read_labels(path)
            check_size(_as_record(size), labels.shape, path)
            pixels = count_values(labels)
            check_labels(pixels, meaning.of_labels, path, self.tally.findings)
            if meaning.kind == "semantic":
                self.tally.label_maps += 1
                self.tally.labels.update(pixels.keys())
                for label, index in meaning.of_labels.indices.items():
                    if label in pixels:
                        self._count(index, pixels[label], path, "", 0)


def _as_record(size: Size | None) -> Record:
    return {"height": size[0], "width": size[1]} if size else {}
