"""Datasets in COCO's panoptic form: a PNG of segment ids an image, and a json that names them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from ...annotations.findings import Findings
from ...annotations.inventory import Inventory
from ...annotations.parts.documents import Annotations
from ...annotations.readers.panoptic import compare_segments
from ...annotations.registered import panoptic_records, read_registered_panoptic
from ...annotations.repair import repaired_panoptic
from ...formats.label_maps import read_panoptic_png
from . import common
from .loading import FileLoader, Loaded, Record, some


def panoptic_metadata(categories: Iterable[common.Category]) -> dict[str, Any]:
    """Return the metadata of a panoptic dataset, by the convention of the published model.

    Contiguous ids are positions in ``categories``, for things and stuff alike. ``stuff_*`` cover
    all classes, so that the semantic evaluator works on them; ``thing_*`` cover the things.
    """
    table = list(enumerate(categories))
    things = [(index, category) for index, category in table if category["isthing"]]
    return {
        "thing_classes": [c["name"] for _, c in things],
        "thing_colors": [c["color"] for _, c in things],
        "stuff_classes": [c["name"] for _, c in table],
        "stuff_colors": [c["color"] for _, c in table],
        "thing_dataset_id_to_contiguous_id": {c["id"]: index for index, c in things},
        "stuff_dataset_id_to_contiguous_id": {c["id"]: index for index, c in table},
    }


def register_panoptic(
    name: str,
    metadata: dict[str, Any],
    *,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str | None = None,
    instances_json: str | None = None,
    evaluator_type: str,
    ignore_label: int = 255,
    hint: str,
    names_in_json: bool = False,
) -> None:
    """Register a dataset in COCO's panoptic form.

    Args:
        metadata: from ``panoptic_metadata``.
        hint: what messages about missing files say on how to make them.
        names_in_json: take the names of the images from the json, in place of the PNGs' names with
            the suffix .jpg.
    """
    optional = {} if sem_seg_root is None else {"sem_seg_root": sem_seg_root}
    common.add(
        name,
        PanopticLoader(name, hint),
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type=evaluator_type,
        ignore_label=ignore_label,
        label_divisor=1000,
        image_names_in_json=names_in_json,
        **metadata,
        **optional,
    )


class PanopticLoader(FileLoader):
    """Load a dataset whose metadata are those of ``register_panoptic``."""

    def _read(self) -> Loaded:
        metadata = MetadataCatalog.get(self._name)
        for path in (metadata.panoptic_json, metadata.image_root, metadata.panoptic_root):
            common.require(path, self._hint)
        annotations = read_registered_panoptic(self._name)
        records = panoptic_records(self._name, annotations)
        if records and not annotations.findings.of("refused"):
            for key, value in records[0].items():
                if key.endswith("file_name"):
                    common.require(value, self._hint)
        inventory = _count_segments(annotations)
        return Loaded(
            records,
            annotations.findings,
            inventory,
            lambda: repaired_panoptic(annotations.content, metadata.panoptic_root),
            lambda: _sample(records),
        )


def _count_segments(annotations: Annotations) -> Inventory:
    names = {c["id"]: c["name"] for c in annotations.categories}
    maps = annotations.content.get("annotations", ())
    inventory = Inventory(list(names.values()), len(maps))
    inventory.annotated = Counter(
        {names.get(key, str(key)): count for key, count in annotations.annotated.items()}
    )
    for entry in maps:
        for segment in entry["segments_info"]:
            if segment["iscrowd"]:
                inventory.crowd += 1
            else:
                inventory.kept[names.get(segment["category_id"], "unknown")] += 1
    return inventory


def _sample(records: Sequence[Record]) -> Findings:
    """Return what is found in the maps of some records."""
    findings = Findings("")
    for record in some(records):
        path = record["pan_seg_file_name"]
        compare_segments(read_panoptic_png(path), record["segments_info"], path, findings)
    return findings
