"""Datasets of things in COCO's instance form: registering, and records for training."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from ...annotations.inventory import Inventory
from ...annotations.readers.instances import Annotations
from ...annotations.registered import read_registered_instances
from ...annotations.repair import repaired_instances
from . import common
from .loading import FileLoader, Loaded, Record

_OPTIONAL = ("id", "area", "keypoints")  # keys of objects that records have where files do


def register_instances(
    name: str,
    categories: Sequence[common.Category],
    *,
    image_root: str,
    json_file: str,
    hint: str,
    **metadata: Any,
) -> None:
    """Register a dataset in COCO's instance form.

    Contiguous ids are positions in ``categories``.

    Args:
        hint: what messages about missing files say on how to make them.
    """
    common.add(
        name,
        InstanceLoader(name, hint),
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=[c["name"] for c in categories],
        thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
        **metadata,
    )


class InstanceLoader(FileLoader):
    """Load a dataset whose metadata have json_file and image_root.

    Where the metadata do not name the classes yet, they are taken from the json.
    """

    def _read(self) -> Loaded:
        metadata = MetadataCatalog.get(self._name)
        common.require(metadata.json_file, self._hint)
        common.require(metadata.image_root, self._hint)
        annotations = read_registered_instances(self._name, find_files=True)
        ids = contiguous_ids(self._name, annotations)
        records = to_records(annotations, ids, metadata.image_root)
        return Loaded(
            records,
            annotations.findings,
            count_objects(annotations, records, ids),
            lambda: repaired_instances(annotations.content),
        )


def contiguous_ids(name: str, annotations: Annotations) -> dict[Any, int]:
    """Return the contiguous number of each category id by the metadata of a dataset.

    A dataset whose metadata do not say gets those of the file. Classes of the file that have other
    names or ids than those of the metadata are a finding.
    """
    found = {c["id"]: c["name"] for c in annotations.categories}
    fill_classes(name, found)
    metadata = MetadataCatalog.get(name)
    ids: dict[Any, int] = metadata.thing_dataset_id_to_contiguous_id
    known = {key: metadata.thing_classes[i] for key, i in ids.items()}
    if found != known and not annotations.findings.of("refused"):
        differing = {k: (found.get(k), known.get(k)) for k in found | known}
        text = ", ".join(f"{key}: {a!r} and {b!r}" for key, (a, b) in differing.items() if a != b)
        annotations.findings.add("classes-differ", name=name, classes=f"{text:.500}")
    return ids


def fill_classes(name: str, found: Mapping[Any, str]) -> None:
    """Take the classes of a file, names by id, as metadata of a dataset that has none."""
    common.fill_metadata(
        name,
        thing_classes=list(found.values()),
        thing_dataset_id_to_contiguous_id={key: i for i, key in enumerate(found)},
    )


def to_records(annotations: Annotations, ids: Mapping[Any, int], image_root: str) -> list[Record]:
    """Return one record an image, in detectron2's format.

    Args:
        ids: contiguous numbers of the categories; an unknown category becomes None.
        image_root: folder of the images.
    """
    records = {
        image["id"]: {key: image[key] for key in ("height", "width") if key in image}
        | {
            "file_name": os.path.join(image_root, str(image.get("file_name"))),
            "image_id": image["id"],
            "annotations": [],
        }
        for image in annotations.content["images"]
    }
    for entry in annotations.content.get("annotations", ()):
        obj = {
            "iscrowd": entry["iscrowd"],
            "bbox": entry["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": ids.get(entry["category_id"]),
            "segmentation": entry["segmentation"],
        }
        obj |= {key: entry[key] for key in _OPTIONAL if key in entry}
        records[entry["image_id"]]["annotations"].append(obj)
    return list(records.values())


def count_objects(
    annotations: Annotations, records: Sequence[Record], ids: Mapping[Any, int]
) -> Inventory:
    """Return what is left in the records, compared with the file."""
    names = {c["id"]: c["name"] for c in annotations.categories}
    by_number = {number: names[key] for key, number in ids.items() if key in names}
    inventory = Inventory(list(names.values()), len(records))
    inventory.annotated = Counter(
        {names.get(key, str(key)): count for key, count in annotations.annotated.items()}
    )
    for record in records:
        for entry in record["annotations"]:
            if entry["iscrowd"]:
                inventory.crowd += 1
            else:
                inventory.kept[by_number.get(entry["category_id"], "unknown")] += 1
    return inventory
