"""Datasets in COCO's panoptic form: a PNG of segment ids an image, and a json that names them."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import common


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
    **options: Any,
) -> None:
    """Register a dataset in COCO's panoptic form.

    Args:
        metadata: from ``panoptic_metadata``.
        options: of ``load_panoptic``.
    """

    def load() -> list[common.Record]:
        records = load_panoptic(
            panoptic_json,
            image_root,
            panoptic_root,
            metadata,
            sem_seg_root=sem_seg_root,
            hint=hint,
            **options,
        )
        for key, value in records[0].items():
            if key.endswith("file_name"):
                common.require(value, hint)
        return records

    optional = {} if sem_seg_root is None else {"sem_seg_root": sem_seg_root}
    common.add(
        name,
        load,
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type=evaluator_type,
        ignore_label=ignore_label,
        label_divisor=1000,
        **metadata,
        **optional,
    )


def load_panoptic(
    panoptic_json: str,
    image_root: str,
    panoptic_root: str,
    metadata: Mapping[str, Any],
    *,
    sem_seg_root: str | None = None,
    hint: str = "",
    image_id: Callable[[Any], Any] = lambda value: value,
    names_in_json: bool = False,
    report: Callable[[str], None] = common.refuse,
) -> list[common.Record]:
    """Read a panoptic json.

    Args:
        metadata: from ``panoptic_metadata``.
        image_id: makes a record's image id from the one in the json.
        names_in_json: take the names of the images from the json, in place of the PNGs' names with
            the suffix .jpg.
        report: called with each problem; where it returns, an unknown category becomes None.

    Returns:
        One record an image: file_name, image_id, pan_seg_file_name, sem_seg_file_name where there
        is a ``sem_seg_root``, and segments_info with contiguous category_id and isthing.

    Raises:
        FileNotFoundError: the json is missing.
        ValueError: a segment's category is unknown, or there is no image.
    """
    content = common.read_json(panoptic_json, hint)
    names = {i["id"]: i["file_name"] for i in content["images"]} if names_in_json else {}
    records = []
    for annotation in content["annotations"]:
        stem = os.path.splitext(annotation["file_name"])[0]
        if names_in_json and annotation["image_id"] not in names:
            report(f"{panoptic_json}: there is no image {annotation['image_id']!r}")
        image_name = names.get(annotation["image_id"], f"{stem}.jpg")
        record = {
            "file_name": os.path.join(image_root, image_name),
            "image_id": image_id(annotation["image_id"]),
            "pan_seg_file_name": os.path.join(panoptic_root, annotation["file_name"]),
            "segments_info": _contiguous_segments(annotation, metadata, panoptic_json, report),
        }
        if sem_seg_root is not None:
            record["sem_seg_file_name"] = os.path.join(sem_seg_root, annotation["file_name"])
        records.append(record)
    if not records:
        report(f"{panoptic_json} has no annotations: at least one image is needed")
    return records


def _contiguous_segments(
    annotation: Mapping[str, Any],
    metadata: Mapping[str, Any],
    path: str,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Return the segments of an image with contiguous category ids, and whether each is a thing."""
    things = metadata["thing_dataset_id_to_contiguous_id"]
    classes = {**metadata["stuff_dataset_id_to_contiguous_id"], **things}
    segments = []
    for segment in annotation["segments_info"]:
        category = segment["category_id"]
        if category not in classes:
            report(
                f"{path}: image {annotation['image_id']}: segment {segment['id']} has the category "
                f"id {category}, which is none of the {len(classes)} known ids"
            )
        segments.append(
            {**segment, "category_id": classes.get(category), "isthing": category in things}
        )
    return segments
