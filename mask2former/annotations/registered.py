"""The annotations of datasets by the names that they are registered under."""

import os
from typing import Any

from detectron2.data import MetadataCatalog

from .parts.documents import Annotations
from .readers.instances import read_instances
from .readers.label_maps import LabelMeaning
from .readers.panoptic import read_panoptic
from .readers.videos import read_videos

Record = dict[str, Any]


def read_registered_instances(name: str, **options: Any) -> Annotations:
    """Read the COCO instance json that the metadata of a dataset name.

    Args:
        name: its metadata have json_file, and perhaps image_root and boxes_as_masks.
        options: of `read_instances`.

    Raises:
        FileNotFoundError, AnnotationError: as `read_instances`.
    """
    metadata = MetadataCatalog.get(name)
    return read_instances(
        metadata.json_file,
        metadata.get("image_root"),
        boxes_as_masks=metadata.get("boxes_as_masks", False),
        **options,
    )


def read_registered_videos(name: str, **options: Any) -> Annotations:
    """Read the YouTube-VIS json that the metadata of a dataset name.

    Args:
        name: its metadata have json_file, and perhaps image_root.
        options: of `read_videos`.

    Raises:
        FileNotFoundError, AnnotationError: as `read_videos`.
    """
    metadata = MetadataCatalog.get(name)
    return read_videos(metadata.json_file, metadata.get("image_root"), **options)


def read_registered_panoptic(name: str, *, need_photos: bool = True) -> Annotations:
    """Read the COCO panoptic json that the metadata of a dataset name.

    Args:
        name: its metadata have panoptic_json, panoptic_root and perhaps image_root; and
            image_names_in_json, where the names of the images are not those of the PNGs.
        need_photos: False looks for no photo, and takes files of test sets too, for scoring.

    Raises:
        FileNotFoundError, AnnotationError: as `read_panoptic`.
    """
    metadata = MetadataCatalog.get(name)
    return read_panoptic(
        metadata.panoptic_json,
        metadata.get("image_root") if need_photos else None,
        metadata.panoptic_root,
        names_in_json=need_photos and metadata.get("image_names_in_json", False),
        need_maps=need_photos,
        find_files=True,
    )


def panoptic_records(name: str, annotations: Annotations) -> list[Record]:
    """Return one record an image of a registered panoptic dataset, in detectron2's format.

    A category that the metadata lack is a finding, and None in the records.

    Args:
        name: its metadata have panoptic_root, image_root, thing_dataset_id_to_contiguous_id and
            stuff_dataset_id_to_contiguous_id, and perhaps sem_seg_root.
        annotations: of `read_registered_panoptic`.

    Returns:
        records with file_name, image_id, pan_seg_file_name, sem_seg_file_name where there is a
        sem_seg_root, and segments_info with contiguous category_id and isthing.
    """
    metadata = MetadataCatalog.get(name)
    things = metadata.thing_dataset_id_to_contiguous_id
    classes = {**metadata.stuff_dataset_id_to_contiguous_id, **things}
    content = annotations.content
    listed = {category["id"] for category in content["categories"]}
    unknown = {key for key in annotations.annotated if key in listed and key not in classes}
    for key in sorted(unknown, key=str):
        known = ", ".join(map(str, list(classes)[:10]))
        annotations.findings.add("class-unknown", f"{name}, segments", category=key, known=known)
    sem_seg_root = metadata.get("sem_seg_root")
    records = []
    for image, entry in zip(content["images"], content.get("annotations", ())):
        record = {
            "file_name": os.path.join(metadata.image_root, str(image.get("file_name"))),
            "image_id": image["id"],
            "pan_seg_file_name": os.path.join(metadata.panoptic_root, entry["file_name"]),
            "segments_info": [
                segment
                | {
                    "category_id": classes.get(segment["category_id"]),
                    "isthing": segment["category_id"] in things,
                }
                for segment in entry["segments_info"]
            ],
        }
        if sem_seg_root is not None:
            record["sem_seg_file_name"] = os.path.join(sem_seg_root, entry["file_name"])
        records.append(record)
    return records


def label_meaning(name: str) -> LabelMeaning:
    """Return what the numbers in the label maps of a dataset mean.

    Args:
        name: its metadata have stuff_classes and perhaps ignore_label and sem_seg_labels.
    """
    metadata = MetadataCatalog.get(name)
    return LabelMeaning(
        metadata.get("stuff_classes") or (),
        metadata.get("ignore_label", 255),
        metadata.get("sem_seg_labels"),
    )


def is_made_by(load: Any, function: str) -> bool:
    """Return whether what is registered for a dataset is of a function of detectron2, by name."""
    return getattr(load, "__qualname__", "").startswith(f"{function}.")
