"""Open datasets for checking: their json as it stands, before a loader leaves anything out."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ..datasets.common import read_json, require_registered
from ..datasets.panoptic import load_panoptic
from ..datasets.ytvis import load_ytvis
from .records import Finding, Kind, Meaning

Record = dict[str, Any]

# By kind: lists in the json, a key that should occur once in them, whether training fails else.
# What the loaders of videos and panoptic maps refuse themselves is not in it.
_UNIQUE: dict[Kind, tuple[tuple[str, str, bool], ...]] = {
    "instance": (
        ("images", "id", False),
        ("images", "file_name", False),
        ("annotations", "id", True),
    ),
    "panoptic": (("annotations", "image_id", False),),
    "video": (("annotations", "id", False),),
}


@dataclass
class Source:
    """A dataset to check.

    Attributes:
        records: with contiguous categories, None for an unknown one.
        findings: in the json, and of loading it as training does.
    """

    name: str
    meaning: Meaning
    records: list[Record]
    findings: list[Finding]


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
    meaning = Meaning(
        kind=kind,
        classes=list(classes or metadata.get("thing_classes") or []),
        sem_seg_labels=metadata.get("sem_seg_labels"),
        ignore_label=metadata.get("ignore_label", 255),
    )
    source = Source(name, meaning, loaded, findings)
    path = metadata.get("panoptic_json" if kind == "panoptic" else "json_file")
    if kind != "semantic" and path and os.path.isfile(path):
        try:
            _read_annotations(source, metadata, path)
        except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
            source.findings.append(Finding(True, path, f"is not of the form: {_message(error)}"))
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


def _read_annotations(source: Source, metadata: Metadata, path: str) -> None:
    """Add what is wrong in the json, and take records from it where the loader changes or refuses
    them."""
    content = read_json(path, "")
    for items, key, fails in _UNIQUE[source.meaning.kind]:
        counts = Counter(item[key] for item in content.get(items) or ())
        for value, count in counts.items():
            if count > 1:
                text = f"{count} {items} have the {key} {value}"
                source.findings.append(Finding(fails, path, text))
    root = metadata.get("image_root") or ""
    if source.meaning.kind == "instance":
        source.records = _instances(content, metadata, root, path, source.findings)
    elif not source.records:
        problems: list[str] = []
        if source.meaning.kind == "video":
            source.records = load_ytvis(path, root, source.name, report=problems.append)
        else:
            pngs, classes = metadata.get("panoptic_root") or "", metadata.as_dict()
            source.records = load_panoptic(
                path, root, pngs, classes, names_in_json=True, report=problems.append
            )
        if problems:  # the loader stopped at the first of them
            source.findings = [f for f in source.findings if f.where != source.name]
        source.findings += [Finding(True, path, p.removeprefix(f"{path}: ")) for p in problems]


def _instances(
    content: Mapping[str, Any], metadata: Metadata, root: str, path: str, findings: list[Finding]
) -> list[Record]:
    """Return all that the json holds, of which detectron2's loader drops parts silently."""
    classes = metadata.get("thing_dataset_id_to_contiguous_id")
    if not classes:
        ids = sorted(category["id"] for category in content["categories"])
        classes = {category: i for i, category in enumerate(ids)}
    records = {
        image["id"]: {key: image[key] for key in ("height", "width") if key in image}
        | {"file_name": os.path.join(root, image["file_name"]), "annotations": []}
        for image in content["images"]
    }
    for annotation in content["annotations"]:
        name, category = f"annotation {annotation['id']}", annotation["category_id"]
        record = records.get(annotation["image_id"])
        if record is None:
            text = f"{name} has the image_id {annotation['image_id']}, which does not exist"
            findings.append(Finding(False, path, text))
            continue
        if category not in classes:
            findings.append(Finding(True, path, f"{name} has the unknown category_id {category}"))
        record["annotations"].append({**annotation, "category_id": classes.get(category)})
        missing = [key for key in ("area", "bbox", "iscrowd") if key not in annotation]
        if missing:
            text = f"{name} has no {' and no '.join(missing)}, which scoring with pycocotools needs"
            findings.append(Finding(False, path, text))
    return list(records.values())
