"""COCO instance json: one reader for training, checking, scoring and drawing."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..formats.atomic import PathLike
from .categories import Category, read_categories
from .documents import Document, Source, open_document
from .fields import flag, id_key, number
from .findings import AnnotationError, Findings
from .images import read_images
from .masks import Box, MaskReader, box_contradicts, usable_box


@dataclass
class Annotations:
    """What an annotation file holds, cleaned.

    Attributes:
        file: its path; what it is called in messages.
        content: json of the standard form, in which every entry can be used: categories with id,
            name and color; images with id and file_name; annotations with image_id, category_id
            and iscrowd, or none at all in the file of a test set.
        findings: what was irregular, and what became of it.
        annotated: numbers of objects in the file by category id, before any was left out.
    """

    file: str
    content: dict[str, Any]
    findings: Findings
    annotated: Counter[Any] = field(default_factory=Counter)

    @property
    def categories(self) -> list[Category]:
        """Return the categories in the order of their ids."""
        return self.content["categories"]

    @property
    def has_truth(self) -> bool:
        """Return whether there are annotations, which files of test sets lack."""
        return "annotations" in self.content


def read_instances(
    source: Source,
    image_root: PathLike | None = None,
    *,
    boxes_as_masks: bool = False,
    find_files: bool = False,
    need_masks: bool = True,
) -> Annotations:
    """Read COCO instance json.

    What is irregular is converted, left out or refused as ``POLICY`` says. Objects keep their
    order; images are in the order of their ids.

    Args:
        source: the file, or its content.
        image_root: folder of the images, for sizes and names that the file does not give.
        boxes_as_masks: take the box of an object that has no mask.
        find_files: look for images that are not where their names say.
        need_masks: False takes objects with a usable box as they are, whatever their masks, which
            is how COCO scores boxes.

    Returns:
        annotations in which each segmentation is a list of polygons [x0, y0, x1, y1, ...] in
        pixels, or a compressed RLE. bbox is that of the file where it can be used, else the extent
        of the mask; an area that cannot be used is missing, and `complete` computes it. What is
        refused is among the findings, and so is not raised here.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: it is not of this form at all.
    """
    with _paused_collection():
        return _read(source, image_root, boxes_as_masks, find_files, need_masks)


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Pause the search for circles: json has none, and a third of the time goes into it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(
    source: Source,
    image_root: PathLike | None,
    boxes_as_masks: bool,
    find_files: bool,
    need_masks: bool,
) -> Annotations:
    document = open_document(source, "COCO instance json", ("images", "categories"))
    content = document.content
    if "annotations" in content and not isinstance(content["annotations"], list):
        found = f"a file whose annotations are {content['annotations']!r:.40}"
        document.findings.add("other-form", expected="a list of annotations", found=found)
        raise AnnotationError(document.findings)
    entries = document.entries("annotations", "annotation")
    annotated = Counter(id_key(entry.get("category_id")) for entry in entries)
    images = read_images(document, image_root, find_files=find_files)
    categories = read_categories(document, annotated)
    masks = MaskReader(document.findings if need_masks else Findings(""), boxes_as_masks)
    reader = _ObjectReader(document, images, categories, masks, need_masks)
    kept = [entry for index, entry in enumerate(entries) if reader.read(entry, index)]
    reader.finish(entries, kept)
    content |= {"images": list(images.values()), "categories": categories}
    if "annotations" in content:
        content["annotations"] = kept
    return Annotations(document.file, content, document.findings, annotated)


class _ObjectReader:
    """Read the objects of one file."""

    def __init__(
        self,
        document: Document,
        images: Mapping[Any, Mapping[str, Any]],
        categories: list[Category],
        masks: MaskReader,
        need_masks: bool,
    ):
        self._findings = document.findings
        self._images = images
        self._masks = masks
        self._need_masks = need_masks
        # A name that is refused makes no unknown category: it has been said what is wrong.
        known = {id_key(c.get("id")) for c in document.entries("categories", "category")}
        self._known = {c["id"] for c in categories} | known
        self._ids: list[Any] = []
        self.crowd = 0

    def read(self, entry: dict[str, Any], index: int) -> bool:
        """Clean one object in place, and return whether it can be used."""
        number_ = entry.get("id")
        item = f"annotation {number_}" if number_ is not None else f"annotation number {index}"
        if number_ is not None:
            self._ids.append(number_)
        image = self._image(entry, item)
        category = id_key(entry.get("category_id"))
        if category not in self._known:
            known = ", ".join(map(str, sorted(self._known, key=str)[:10]))
            self._findings.add(
                "class-unknown", item, category=entry.get("category_id"), known=known
            )
        entry["category_id"] = category
        if entry.get("iscrowd") != 0 or "ignore" in entry:
            entry["iscrowd"] = self._crowd(entry, item)
            self.crowd += entry["iscrowd"]
        if image is None:
            return False
        if not self._need_masks and self._has_box(entry):
            return True
        size = (image["height"], image["width"]) if "height" in image else None
        extent = self._masks.read(entry, item, size)
        if extent is None:
            return False
        self._check_box(entry, item, extent)
        self._check_area(entry, item)
        return True

    def _has_box(self, entry: dict[str, Any]) -> bool:
        """Return whether box and area can be used as they are."""
        box, area = usable_box(entry.get("bbox")), number(entry.get("area"))
        if box is None or (area is None and entry.get("segmentation")):
            return False
        entry["bbox"], entry["area"] = box, box[2] * box[3] if area is None else area
        return True

    def _image(self, entry: dict[str, Any], item: str) -> Mapping[str, Any] | None:
        key = id_key(entry.get("image_id"))
        image = self._images.get(key)
        if key is None:
            self._findings.add("object-image-missing", item)
        elif image is None:
            self._findings.add("object-of-unlisted-image", item, image=entry["image_id"])
        else:
            entry["image_id"] = image["id"]
        return image

    def _crowd(self, entry: dict[str, Any], item: str) -> int:
        result = 0
        for key in ("iscrowd", "ignore"):
            value = entry.get(key, 0)
            if type(value) is int and value in (0, 1):
                result |= value
                continue
            read = flag(value)
            if read is None:
                self._findings.add("crowd-unclear", item, key=key, value=value)
            else:
                self._findings.add("crowd-form", item, key=key, value=value, read=read)
                result |= read
        return result

    def _check_box(self, entry: dict[str, Any], item: str, extent: Box) -> None:
        box = usable_box(entry.get("bbox"))
        x0, y0, x1, y1 = extent
        if box is None:
            self._findings.add("box-unusable", item, value=entry.get("bbox"))
            entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            return
        entry["bbox"] = box
        if box_contradicts(box, extent):
            found = [round(v, 1) for v in (x0, y0, x1 - x0, y1 - y0)]
            self._findings.add("box-contradicts", item, box=box, extent=found)

    def _check_area(self, entry: dict[str, Any], item: str) -> None:
        area = entry.get("area")
        if isinstance(area, int | float) and 0 <= area < float("inf"):
            return
        found = number(area)
        if found is None or found < 0:
            self._findings.add("area-unusable", item, value=entry.pop("area", None))
        else:
            entry["area"] = found

    def finish(self, entries: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
        """Add what only all objects together show."""
        findings, masks = self._findings, self._masks
        for key, count in Counter(map(id_key, self._ids)).items():
            if count > 1:
                findings.add("object-id-twice", f"annotation {key}")
        if masks.polygons and masks.in_unit_square == masks.polygons:
            findings.add("polygon-unit")
        if not entries:
            return
        if self._need_masks and masks.without == len(entries) and not kept:
            findings.add("boxes-only", count=len(entries))
        elif self.crowd == len(entries):
            findings.add("all-crowd", count=len(entries))
        elif self.crowd > len(entries) / 2:
            findings.add("mostly-crowd", crowd=self.crowd, count=len(entries))
