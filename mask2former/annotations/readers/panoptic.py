"""COCO panoptic json and its maps: one reader for training, checking, scoring and drawing."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import UserError
from ...formats.atomic import PathLike
from ...formats.label_maps import count_values, read_panoptic_png, values_in
from ..findings import Findings
from ..parts.categories import Category, read_categories
from ..parts.documents import Annotations, Document, Source, open_document
from ..parts.fields import id_key, kind_of
from ..parts.images import FilePaths, Image, read_images
from ..parts.objects import ObjectReader
from ..policy import POLICY

Segment = dict[str, Any]

_MAX_ID = (1 << 24) - 1  # what three channels of a PNG hold


def read_panoptic(
    source: Source,
    image_root: str | None = None,
    panoptic_root: str | None = None,
    *,
    names_in_json: bool = True,
    need_maps: bool = True,
    need_names: bool = True,
    find_files: bool = False,
) -> Annotations:
    """Read COCO panoptic json; no pixel of a map is read.

    What is irregular is converted, left out or refused as ``POLICY`` says. Annotations keep their
    order.

    Args:
        source: the file, or its content.
        image_root, panoptic_root: folders of the images and of the PNGs.
        names_in_json: take the names of the images from the json, in place of the PNGs' names with
            the suffix .jpg.
        need_maps: False takes files of test sets too, which have no annotations.
        need_names: False takes categories without names, which panoptic quality does without.
        find_files: look for maps, and photos where there is an ``image_root``, that are not where
            their names say.

    Returns:
        annotations with image_id, file_name (of the PNG, below ``panoptic_root`` or absolute) and
        segments_info, whose segments have an id from 1 on, category_id, iscrowd and perhaps area;
        images with id and file_name, those that have a map where any has; categories with id,
        name, color and isthing. What is refused is among the findings, and so is not raised here.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: it is not of this form at all.
    """
    lists = ("annotations", "categories") if need_maps else ("categories",)
    document = open_document(source, "COCO panoptic json", lists)
    content = document.content
    if not need_maps and content.get("annotations", ()) is None:
        del content["annotations"]
    document.check_annotations()
    entries = document.entries("annotations", "annotation")
    images: dict[Any, Image] | None = None
    if names_in_json or content.get("images"):
        look = find_files and names_in_json and image_root is not None
        images = read_images(document, image_root, find_files=look, need_sizes=False)
    categories = read_categories(document, _used(entries), with_things=True, need_names=need_names)
    _check_category_ids(categories, document.findings)
    paths = FilePaths(panoptic_root, document) if find_files and panoptic_root else None
    reader = _MapReader(document, images, paths)
    for index, entry in enumerate(entries):
        reader.read(entry, index)
    reader.finish(need_maps)
    content |= {
        "images": reader.images(names_in_json),
        "annotations": list(reader.maps.values()),
        "categories": categories,
    }
    if not reader.maps:
        del content["annotations"]
    return Annotations(document.file, content, document.findings, reader.annotated)


def read_segment_map(path: PathLike, segments: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Read a panoptic map of which all pixels have to be void or of a listed segment.

    Returns:
        uint32 (H, W), 0 for void.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file cannot be used, or has a segment that is not listed; names both.
    """
    ids = read_panoptic_png(path)
    try:
        require_listed(ids, [segment["id"] for segment in segments])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return ids


def require_listed(ids: np.ndarray, listed: Collection[int]) -> None:
    """Raise a UserError where a map (H, W) has a pixel of a segment that is not listed."""
    unlisted = values_in(ids) - set(listed) - {0}
    if unlisted:
        segment = min(unlisted)
        text = POLICY["segment-not-listed"].text.format(pixels=int((ids == segment).sum()))
        raise UserError(f"segment {segment}: {text} [segment-not-listed]")


def compare_segments(
    ids: np.ndarray, segments: Sequence[Mapping[str, Any]], path: str, findings: Findings
) -> dict[int, int]:
    """Compare a panoptic map with the segments that are listed for it.

    Args:
        ids: (H, W), 0 for void.
        segments: with id and perhaps area.
        path: of the map.
        findings: to which those of the map are added.

    Returns:
        the number of pixels of each segment that is listed.
    """
    areas = count_values(ids)
    areas.pop(0, None)
    listed = {segment["id"]: segment.get("area") for segment in segments}
    for segment, count in Counter(segment["id"] for segment in segments).items():
        if count > 1:
            findings.add("segment-listed-twice", f"segment {segment}", file=path, count=count)
    for segment in sorted(areas.keys() - listed.keys()):
        pixels = areas[segment]
        findings.add("segment-not-listed", f"segment {segment}", file=path, pixels=pixels)
    for segment, area in listed.items():
        item, pixels = f"segment {segment}", areas.get(segment, 0)
        if not pixels:
            findings.add("segment-without-pixel", item, file=path)
        elif area not in (None, pixels):
            findings.add("area-contradicts", item, file=path, area=area, pixels=pixels)
    return {segment: areas.get(segment, 0) for segment in listed}


def _used(entries: Sequence[Mapping[str, Any]]) -> set[Any]:
    """Return the category ids that segments have, before these are looked at."""
    lists = (entry.get("segments_info") for entry in entries)
    return {
        id_key(segment.get("category_id"))
        for segments in lists
        if isinstance(segments, list)
        for segment in segments
        if isinstance(segment, Mapping)
    }


def _check_category_ids(categories: Sequence[Category], findings: Findings) -> None:
    for category in categories:
        if type(category["id"]) is not int:
            findings.add("class-id-text", f"category {category['id']}", value=category["id"])


class _MapReader(ObjectReader):
    """Read the annotations of one file, each of which is a map with its segments."""

    def __init__(
        self, document: Document, images: Mapping[Any, Image] | None, paths: FilePaths | None
    ):
        super().__init__(document)
        self._images = images
        self._paths = paths
        self.maps: dict[Any, dict[str, Any]] = {}
        self.annotated: Counter[Any] = Counter()

    def read(self, entry: dict[str, Any], index: int) -> None:
        """Clean one annotation in place, and keep it where it can be used."""
        key = id_key(entry.get("image_id"))
        item = f"annotation number {index}" if key is None else f"image {entry['image_id']}"
        name = entry.get("file_name")
        if key is None:
            self._findings.add("object-image-missing", item)
        if not isinstance(name, str) or not name:
            self._findings.add("map-name-missing", item)
            entry["file_name"] = ""
        elif self._paths:
            entry["file_name"] = self._paths.find(name, item)
        entry["segments_info"] = self._segments(entry.get("segments_info"), item)
        if self._images is not None and key in self._images:
            entry["image_id"] = self._images[key]["id"]
        elif self._images is not None and key is not None:
            self._findings.add("object-of-unlisted-image", item, image=entry["image_id"])
            key = None
        first = self.maps.get(key)
        if first is None and key is not None:
            self.maps[key] = entry
        elif first is not None:
            self._report_twin_map(first, entry, item)

    def _report_twin_map(
        self, first: Mapping[str, Any], second: Mapping[str, Any], item: str
    ) -> None:
        keys = ("file_name", "segments_info")
        if all(first[key] == second[key] for key in keys):
            self._findings.add("map-twice", item)
            self.annotated.subtract(s["category_id"] for s in second["segments_info"])
        else:
            names = [part["file_name"] for part in (first, second)]
            self._findings.add("map-shared", item, first=names[0], second=names[1])

    def _segments(self, value: Any, item: str) -> list[Segment]:
        if value is None:
            self._findings.add("segments-missing", item, value=value)
            return []
        if not isinstance(value, list):
            self._findings.add("segments-form", item, found=kind_of(value))
            return []
        segments: dict[Any, Segment] = {}
        for index, listed in enumerate(value):
            if not isinstance(listed, Mapping):
                where = f"{item}, segment number {index}"
                self._findings.add("entry-form", where, found=kind_of(listed))
                continue
            segment = dict(listed)
            self._read_segment(segment, item)
            first = segments.setdefault(segment["id"], segment)
            if first is segment:
                self.annotated[segment["category_id"]] += 1
            else:
                self._report_twin(first, segment, item)
        return list(segments.values())

    def _read_segment(self, segment: Segment, item: str) -> None:
        number = id_key(segment.get("id"))
        item = f"{item}, segment {segment.get('id')}"
        if type(number) is not int or not 1 <= number <= _MAX_ID:
            self._findings.add("segment-id-unusable", item, value=segment.get("id"))
        segment["id"] = number
        self.read_fields(segment, item)
        self.read_area(segment, item)

    def _report_twin(self, first: Segment, second: Segment, item: str) -> None:
        item = f"{item}, segment {second['id']}"
        if all(first[key] == second[key] for key in ("category_id", "iscrowd")):
            self._findings.add("segment-twice", item)
        else:
            names = [segment["category_id"] for segment in (first, second)]
            self._findings.add("segment-id-shared", item, first=names[0], second=names[1])

    def finish(self, need_maps: bool) -> None:
        """Add what only all annotations together show."""
        self.report_crowd()
        if not self.maps:
            if need_maps and not self._findings.of("refused"):
                self._findings.add("no-maps")
            return
        for key, image in (self._images or {}).items():
            if key not in self.maps:
                name = image.get("file_name")
                self._findings.add("image-without-map", f"image {image['id']} ({name})")

    def images(self, names_in_json: bool) -> list[Image]:
        """Return the images that have a map, in its order; those of a test set have none."""
        listed = self._images or {}
        if not self.maps:
            return list(listed.values())
        images = []
        for key, entry in self.maps.items():
            image = dict(listed.get(key) or {"id": entry["image_id"]})
            if not names_in_json:
                image["file_name"] = os.path.splitext(entry["file_name"])[0] + ".jpg"
            images.append(image)
        return images
