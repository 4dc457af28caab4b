"""Open datasets for checking: their json as it stands, before a loader leaves anything out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ..datasets.common import read_json, require_registered
from .records import Finding, Kind, Meaning

Record = dict[str, Any]


@dataclass
class Source:
    """A dataset to check.

    Attributes:
        kind: of its annotations.
        classes: names of the contiguous classes.
        records: with contiguous categories, None for an unknown one.
        findings: in the json, and of loading it as training does.
    """

    name: str
    kind: Kind
    classes: list[str]
    meaning: Meaning
    records: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def open_source(name: str) -> Source:
    """Open a dataset by its registered name.

    Raises:
        ValueError: there is none of that name.
    """
    require_registered(name)
    findings, loaded = [], []
    try:
        loaded = list(DatasetCatalog.get(name))
    except (AssertionError, LookupError, OSError, TypeError, ValueError) as error:
        findings.append(Finding(True, name, f"cannot be loaded: {_message(error)}"))
    metadata = MetadataCatalog.get(name)
    kind = _kind(metadata, loaded)
    classes = metadata.get("stuff_classes") if kind in ("panoptic", "semantic") else None
    classes = list(classes or metadata.get("thing_classes") or [])
    meaning = Meaning(
        len(classes), metadata.get("sem_seg_labels"), metadata.get("ignore_label", 255)
    )
    source = Source(name, kind, classes, meaning, loaded, findings)
    path = metadata.get("panoptic_json" if kind == "panoptic" else "json_file")
    if kind != "semantic" and path and os.path.isfile(path):
        _read_raw(source, metadata, path)
    return source


def _message(error: Exception) -> str:
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return (
        f"{text}" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {text}"
    )


def _kind(metadata: Metadata, records: list[Record]) -> Kind:
    first = records[0] if records else {}
    evaluator = metadata.get("evaluator_type", "")
    if "file_names" in first or evaluator == "ytvis":
        return "video"
    if "pan_seg_file_name" in first or (not first and evaluator.endswith("panoptic_seg")):
        return "panoptic"
    return "instance" if "annotations" in first or evaluator == "coco" else "semantic"


def _read_raw(source: Source, metadata: Metadata, path: str) -> None:
    """Add what is wrong in the json, and take records from it where the loader would change
    or refuse them."""
    try:
        reader = _RawJson(read_json(path, ""), path, metadata)
        if source.kind == "panoptic":
            records = reader.panoptic()
        elif source.kind == "video":
            records = reader.videos()
        else:
            records = reader.instances()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        source.findings.append(Finding(True, path, f"is not of the form: {_message(error)}"))
        return
    source.findings += reader.findings
    if source.kind == "instance" or not source.records:
        source.records = records


class _RawJson:
    """Reads annotation files and goes on where a loader stops."""

    def __init__(self, content: Mapping[str, Any], path: str, metadata: Metadata) -> None:
        self.content = content
        self.path = path
        self.metadata = metadata
        self.findings: list[Finding] = []
        classes: dict[int, int] = {}
        for key in ("stuff_dataset_id_to_contiguous_id", "thing_dataset_id_to_contiguous_id"):
            classes |= metadata.get(key) or {}
        ids = sorted(category["id"] for category in content["categories"])
        self.classes = classes or {category: i for i, category in enumerate(ids)}

    def instances(self) -> list[Record]:
        self._find_repeated(self.content["images"], "image", fails=False)
        self._find_repeated(self.content["images"], "image", fails=False, key="file_name")
        self._find_repeated(self.content["annotations"], "annotation", fails=True)
        records = {
            image["id"]: self._size(image)
            | {"file_name": self._join("image_root", image["file_name"]), "annotations": []}
            for image in self.content["images"]
        }
        for annotation, record in self._matched(records, "image_id"):
            annotation = dict(annotation)
            annotation["category_id"] = self._category(annotation, "annotation")
            record["annotations"].append(annotation)
            missing = [key for key in ("area", "bbox", "iscrowd") if key not in annotation]
            if missing:
                text = f"annotation {annotation['id']} has no {' and no '.join(missing)}"
                self._add(False, f"{text}, which scoring with pycocotools needs")
        return list(records.values())

    def panoptic(self) -> list[Record]:
        self._find_repeated(self.content["annotations"], "image", fails=False, key="image_id")
        names = {image["id"]: image for image in self.content["images"]}
        records = []
        for annotation in self.content["annotations"]:
            image = names.get(annotation["image_id"])
            if image is None:
                self._add(False, f"there is no image {annotation['image_id']}")
                image = {"file_name": os.path.splitext(annotation["file_name"])[0] + ".jpg"}
            segments = [
                segment | {"category_id": self._category(segment, "segment")}
                for segment in annotation["segments_info"]
            ]
            record = self._size(image)
            record["file_name"] = self._join("image_root", image["file_name"])
            record["pan_seg_file_name"] = self._join("panoptic_root", annotation["file_name"])
            records.append(record | {"segments_info": segments})
        return records

    def videos(self) -> list[Record]:
        self._find_repeated(self.content["videos"], "video", fails=True)
        self._find_repeated(self.content.get("annotations") or [], "annotation", fails=False)
        records = {}
        for video in self.content["videos"]:
            names = [self._join("image_root", name) for name in video["file_names"]]
            if not names or video.get("length", len(names)) != len(names):
                text = (
                    f"video {video['id']} has {len(names)} files and length {video.get('length')}"
                )
                self._add(True, text)
            record = self._size(video) | {"file_names": names, "video_id": video["id"]}
            records[video["id"]] = record | {"annotations": []}
        for annotation, record in self._matched(records, "video_id"):
            frames, length = annotation["segmentations"], len(record["file_names"])
            if len(frames) != length:
                text = f"annotation {annotation['id']} has {len(frames)} masks for {length} frames"
                self._add(True, text)
                continue
            category = self._category(annotation, "annotation")
            record["annotations"].append(annotation | {"category_id": category})
        return [record for record in records.values() if record["file_names"]]

    def _add(self, fails: bool, text: str) -> None:
        self.findings.append(Finding(fails, self.path, text))

    def _find_repeated(
        self, items: Iterable[Mapping[str, Any]], what: str, *, fails: bool, key: str = "id"
    ) -> None:
        counts = Counter(item[key] for item in items)
        for value, count in counts.items():
            if count > 1:
                self._add(fails, f"{count} {what}s have the {key} {value}")

    def _matched(
        self, records: Mapping[Any, Record], key: str
    ) -> Iterable[tuple[Mapping[str, Any], Record]]:
        for annotation in self.content.get("annotations") or ():
            if annotation[key] in records:
                yield annotation, records[annotation[key]]
            else:
                is_video = key == "video_id"
                text = f"annotation {annotation['id']} has the {key} {annotation[key]}"
                self._add(is_video, f"{text}, which does not exist")

    def _category(self, item: Mapping[str, Any], what: str) -> int | None:
        category = self.classes.get(item["category_id"])
        if category is None:
            text = f"{what} {item['id']} has the unknown category_id {item['category_id']}"
            self._add(True, text)
        return category

    def _size(self, item: Mapping[str, Any]) -> Record:
        return {key: item[key] for key in ("height", "width") if key in item}

    def _join(self, root: str, name: str) -> str:
        return os.path.join(self.metadata.get(root) or "", name)
