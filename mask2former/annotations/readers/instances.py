"""COCO instance json: one reader for training, checking, scoring and drawing."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...formats.atomic import PathLike
from ..findings import Findings
from ..parts.categories import read_categories
from ..parts.documents import Annotations, Document, Source, open_document
from ..parts.fields import id_key, number
from ..parts.images import Image, read_images
from ..parts.masks import Box, MaskReader, box_contradicts, usable_box
from ..parts.objects import ObjectReader, object_name


def read_instances(
    source: Source,
    image_root: PathLike | None = None,
    *,
    boxes_as_masks: bool = False,
    find_files: bool = False,
    need_masks: bool = True,
    exif_rotation: bool | None = None,
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
        exif_rotation: for sizes that the file does not give, see `read_images`.

    Returns:
        annotations in which each segmentation is a list of polygons [x0, y0, x1, y1, ...] in
        pixels, or a compressed RLE. bbox is that of the file where it can be used, else the extent
        of the mask; an area that cannot be used is missing, and is computed from the mask where it
        is needed. What is refused is among the findings, and so is not raised here.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: it is not of this form at all.
    """
    with _paused_collection():
        document = open_document(source, "COCO instance json", ("images", "categories"))
        document.check_annotations()
        images = read_images(
            document, image_root, find_files=find_files, exif_rotation=exif_rotation
        )
        return _read(document, images, boxes_as_masks, need_masks)


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
    document: Document, images: Mapping[Any, Image], boxes_as_masks: bool, need_masks: bool
) -> Annotations:
    content = document.content
    entries = document.entries("annotations", "annotation")
    annotated = Counter(id_key(entry.get("category_id")) for entry in entries)
    categories = read_categories(document, annotated)
    masks = MaskReader(document.findings if need_masks else Findings(""), boxes_as_masks)
    reader = _InstanceReader(document, images, masks, need_masks)
    kept = [entry for index, entry in enumerate(entries) if reader.read(entry, index)]
    reader.finish(len(kept))
    content |= {"images": list(images.values()), "categories": categories}
    if "annotations" in content:
        content["annotations"] = kept
    return Annotations(document.file, content, document.findings, annotated)


class _InstanceReader(ObjectReader):
    """Read the objects of one file."""

    def __init__(
        self,
        document: Document,
        images: Mapping[Any, Mapping[str, Any]],
        masks: MaskReader,
        need_masks: bool,
    ):
        super().__init__(document)
        self._images = images
        self._masks = masks
        self._need_masks = need_masks

    def read(self, entry: dict[str, Any], index: int) -> bool:
        """Clean one object in place, and return whether it can be used."""
        item = object_name(entry, index)
        self.count_id(entry)
        image = self._image(entry, item)
        self.read_fields(entry, item)
        if image is None:
            return False
        if not self._need_masks and self._has_box(entry):
            return True
        size = (image["height"], image["width"]) if "height" in image else None
        extent = self._masks.read(entry, item, size)
        if extent is None:
            return False
        self._check_box(entry, item, extent)
        self.read_area(entry, item)
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

    def finish(self, kept: int) -> None:
        """Add what only all objects together show.

        Args:
            kept: number of objects that can be used.
        """
        masks = self._masks
        self.report_ids()
        if masks.polygons and masks.in_unit_square == masks.polygons:
            self._findings.add("polygon-unit")
        if self._need_masks and self.count and masks.without == self.count and not kept:
            self._findings.add("boxes-only", count=self.count)
        else:
            self.report_crowd()
