"""Annotation files as a whole: reading the json, and telling the forms of the tools apart."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...formats.atomic import PathLike
from ...formats.json_files import read_json
from ..findings import AnnotationError, Findings, some
from .fields import kind_of

Source = PathLike | Mapping[str, Any]

# Keys at the top of the json files of other tools.
_TOOLS = {
    "shapes": "a LabelMe file of one image; convert them all to one COCO file",
    "_via_img_metadata": "a project of the VGG Image Annotator; export it as COCO",
    "_via_settings": "a project of the VGG Image Annotator; export it as COCO",
    "items": "a Datumaro dataset; export it as COCO",
    "dm_format_version": "a Datumaro dataset; export it as COCO",
    "geometry": "GeoJSON",
    "features": "GeoJSON",
    "questions": "visual question answering",
    "imgHeight": "the polygons of one image of Cityscapes; datasets/README.md says how to use it",
    "item": "a V7 Darwin file of one image; export it as COCO",
    "instances": "a SuperAnnotate file of one image; export it as COCO",
    "image": "a file of one image, as those of SA-1B; join them to one COCO file",
    "label_classes": "a Hasty project; export it as COCO",
    "data_list": "a dataset of MMDetection; convert it to COCO",
    "assets": "a VoTT project; export it as COCO",
    "samples": "a FiftyOne dataset; export it as COCODetectionDataset",
    "openlabel": "OpenLABEL; export it as COCO",
}


def open_document(source: Source, expected: str, lists: Sequence[str]) -> "Document":
    """Read an annotation file, or take what was read from one.

    Args:
        source: a json file; or its content, which is not changed.
        expected: the form, for messages: "COCO instance json".
        lists: keys that have to be there, each with a list of objects.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: it is no json of this form; says which form it seems to have.
    """
    if isinstance(source, Mapping):
        file, content = "annotations", {key: _copied(value) for key, value in source.items()}
    else:
        file, content = os.fspath(source), read_json(source)
    findings = Findings(file)
    found = _other_form(content, expected, lists)
    if found:
        findings.add("other-form", expected=expected, found=found)
        raise AnnotationError(findings)
    return Document(file, content, findings)


def _copied(value: Any) -> Any:
    """Return a list whose objects readers may change, without a copy of what is in those."""
    if not isinstance(value, list):
        return value
    return [dict(item) if isinstance(item, dict) else item for item in value]


class Document:
    """The content of an annotation file, and what was found in it.

    Attributes:
        file: its path; what it is called in messages.
        content: the json, whose lists readers replace by cleaned ones.
        findings: in the order in which they came up.
    """

    def __init__(self, file: str, content: dict[str, Any], findings: Findings):
        self.file = file
        self.content = content
        self.findings = findings

    @property
    def folder(self) -> Path:
        """Return the folder that paths in the file may be relative to."""
        return Path(self.file).parent

    def check_annotations(self) -> None:
        """Raise an AnnotationError where there is something else than a list of annotations."""
        if not isinstance(self.content.get("annotations", []), list):
            found = f"a file whose annotations are {kind_of(self.content['annotations'])}"
            self.findings.add("other-form", expected="a list of annotations", found=found)
            raise AnnotationError(self.findings)

    def entries(self, key: str, name: str) -> list[dict[str, Any]]:
        """Return the entries of a list that are json objects; the others are refused.

        Args:
            name: of one entry, for messages: "image".
        """
        entries = self.content.get(key) or []
        if not isinstance(entries, list):
            found = kind_of(entries)
            self.findings.add("other-form", expected=f"a list of {key}", found=found)
            return []
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self.findings.add("entry-form", f"{name} number {index}", found=kind_of(entry))
        return [entry for entry in entries if isinstance(entry, dict)]


@dataclass
class Annotations:
    """What an annotation file holds, cleaned.

    Attributes:
        file: its path; what it is called in messages.
        content: json of the standard form, in which every entry can be used; see the reader. The
            file of a test set has no annotations at all.
        findings: what was irregular, and what became of it.
        annotated: numbers of objects in the file by category id, before any was left out.
    """

    file: str
    content: dict[str, Any]
    findings: Findings
    annotated: Counter[Any] = field(default_factory=Counter)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """Return the categories in the order of their ids."""
        return self.content["categories"]

    @property
    def has_truth(self) -> bool:
        """Return whether there are annotations, which files of test sets lack."""
        return "annotations" in self.content


def _other_form(content: Any, expected: str, lists: Sequence[str]) -> str | None:
    """Return which form a json has that lacks one of ``lists``; None where it has them all."""
    if isinstance(content, list):
        return _kind_of_list(content)
    if not isinstance(content, Mapping):
        return kind_of(content)
    if not content:
        return "an empty json object"
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, Mapping):
        if "caption" in first:
            return "COCO captions, which have no masks"
        if "score" in first and lists[0] not in content:
            return "results of a model"
        if "segments_info" in first and "instance" in expected:
            return "COCO panoptic json (task panoptic)"
        if "segments_info" not in first and "panoptic" in expected:
            return "no panoptic json: its annotations lack segments_info (task instance?)"
        by_frame = "image_id" in first and "segmentations" not in first
        if by_frame and "videos" in lists and {"videos", "images"} <= content.keys():
            return (
                "CocoVID json, with an annotation for each frame of an object; convert it to one "
                "annotation an object, with a list of segmentations"
            )
    if "annotations" in lists and "annotations" not in content and "images" in content:
        return "the image info of a test set: images without annotations"
    if "videos" in content and "images" not in content and "videos" not in lists:
        return "annotations of videos (task video)"
    if "videos" in lists and "videos" not in content and "images" in content:
        return "annotations of images (task instance)"
    missing = next((key for key in lists if not isinstance(content.get(key), list)), None)
    return None if missing is None else _form_of_keys(content, missing)


def _form_of_keys(content: Mapping[str, Any], missing: str) -> str:
    """Return which form a json has, by its keys; ``missing`` is none of them, or no list."""
    if missing in content:
        return f"a file whose {missing} are {kind_of(content[missing])}"
    for key, name in _TOOLS.items():
        if key in content:
            return name
    entry = next(iter(content.values()))
    if isinstance(entry, Mapping) and "regions" in entry:
        return "annotations of the VGG Image Annotator in its own form; export them as COCO"
    return f"a file without {missing} (it has {some(list(map(str, content)), 6)})"


def _kind_of_list(content: Sequence[Any]) -> str:
    first = content[0] if content else None
    if isinstance(first, Mapping):
        if "score" in first:
            return "a list of results"
        if {"data", "Labeled Data", "data_row", "annotator"} & first.keys():
            return "an export of Label Studio or Labelbox; export it as COCO"
        if "labels" in first or "regions" in first:
            return "a list of images with labels, as of BDD100K; convert it to COCO"
    return "a list"
