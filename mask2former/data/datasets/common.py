"""What the registrations of all data sets share: adding names once, metadata, and loading."""

from __future__ import annotations

import colorsys
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_sem_seg
from detectron2.data.datasets.coco import load_coco_json

__all__ = [
    "add",
    "fill_metadata",
    "hint",
    "instances",
    "palette",
    "panoptic",
    "panoptic_metadata",
    "read_json",
    "require",
    "semantic",
]

Category = Mapping[str, Any]
Record = dict[str, Any]


def add(name: str, load: Callable[[], list[Record]], **metadata: Any) -> None:
    """Registers a data set in detectron2's catalogs, unless ``name`` is there already.

    Nothing is read before the data set is asked for.
    """
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, load)
    fill_metadata(name, **metadata)


def fill_metadata(name: str, **metadata: Any) -> None:
    """Adds the entries that the metadata of ``name`` lacks; those that are there stay."""
    known = MetadataCatalog.get(name)
    present = known.as_dict()
    known.set(**{key: value for key, value in metadata.items() if key not in present})


def require(path: str, hint: str) -> str:
    """Returns ``path``, which has to exist.

    Raises:
        FileNotFoundError: with ``hint``, which says how to make it.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing. {hint}")
    return path


def read_json(path: str, hint: str) -> dict[str, Any]:
    """Reads an annotation file.

    Raises:
        FileNotFoundError: with ``hint``, which says how to make it.
        ValueError: the file is no json object.
    """
    text = Path(require(path, hint)).read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid json: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a json {type(content).__name__}, expected an object")
    return content


def hint(script: str) -> str:
    """What messages say about a missing file that datasets/prepare_``script``.py makes."""
    return f"Make it with: python datasets/prepare_{script}.py (datasets/README.md shows the tree)"


def palette(count: int) -> list[list[int]]:
    """``count`` colours that neighbours in the list tell apart, RGB in 0..255."""
    golden = (5**0.5 - 1) / 2  # steps of hue that never come back to the same place
    tones = (
        colorsys.hsv_to_rgb(
            index * golden % 1, (0.85, 0.55)[index % 2], (0.95, 0.75, 0.6)[index % 3]
        )
        for index in range(count)
    )
    return [[round(255 * channel) for channel in tone] for tone in tones]


def panoptic_metadata(categories: Iterable[Category]) -> dict[str, Any]:
    """Metadata of a panoptic data set, by the convention of the published model.

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


def panoptic(
    name: str,
    metadata: dict[str, Any],
    *,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str | None,
    instances_json: str | None,
    evaluator_type: str,
    ignore_label: int = 255,
    hint: str,
    image_id: Callable[[Any], Any] = lambda value: value,
    names_in_json: bool = False,
    **more: Any,
) -> None:
    """Registers a data set in COCO's panoptic form.

    Args:
        metadata, names_in_json: as for ``load_panoptic``.
        image_id: makes a record's image id from the one in the json.
        more: further metadata.
    """

    def load() -> list[Record]:
        return load_panoptic(
            panoptic_json,
            image_root,
            panoptic_root,
            sem_seg_root,
            metadata,
            hint,
            image_id,
            names_in_json,
        )

    if sem_seg_root is not None:
        more["sem_seg_root"] = sem_seg_root
    add(
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
        **more,
    )


def load_panoptic(
    panoptic_json: str,
    image_root: str,
    panoptic_root: str,
    sem_seg_root: str | None,
    metadata: Mapping[str, Any],
    hint: str = "",
    image_id: Callable[[Any], Any] = lambda value: value,
    names_in_json: bool = False,
) -> list[Record]:
    """Reads a panoptic json.

    Args:
        metadata: from ``panoptic_metadata``.
        names_in_json: take the names of the images from the json, in place of the PNGs' names with
            the suffix .jpg.

    Returns:
        One record an image: file_name, image_id,
        pan_seg_file_name, sem_seg_file_name where there is a ``sem_seg_root``, and segments_info
        with contiguous category_id and isthing.

    Raises:
        FileNotFoundError: the json, or the first image's files, are missing.
        ValueError: a segment's category is unknown, or there is no image.
    """
    content = read_json(panoptic_json, hint)
    names = {i["id"]: i["file_name"] for i in content["images"]} if names_in_json else {}
    records = []
    for annotation in content["annotations"]:
        stem = os.path.splitext(annotation["file_name"])[0]
        if names_in_json and annotation["image_id"] not in names:
            raise ValueError(f"{panoptic_json}: there is no image {annotation['image_id']!r}")
        image_name = names.get(annotation["image_id"], f"{stem}.jpg")
        record = {
            "file_name": os.path.join(image_root, image_name),
            "image_id": image_id(annotation["image_id"]),
            "pan_seg_file_name": os.path.join(panoptic_root, annotation["file_name"]),
            "segments_info": _contiguous_segments(annotation, metadata, panoptic_json),
        }
        if sem_seg_root is not None:
            record["sem_seg_file_name"] = os.path.join(sem_seg_root, annotation["file_name"])
        records.append(record)
    if not records:
        raise ValueError(f"{panoptic_json} has no annotations: at least one image is needed")
    for key, value in records[0].items():
        if key.endswith("file_name"):
            require(value, hint)
    return records


def _contiguous_segments(
    annotation: Mapping[str, Any], metadata: Mapping[str, Any], path: str
) -> list[dict[str, Any]]:
    """The segments of an image with contiguous category ids, and whether each is a thing."""
    things = metadata["thing_dataset_id_to_contiguous_id"]
    classes = {**metadata["stuff_dataset_id_to_contiguous_id"], **things}
    segments = []
    for segment in annotation["segments_info"]:
        category = segment["category_id"]
        if category not in classes:
            raise ValueError(
                f"{path}: image {annotation['image_id']}: segment {segment['id']} has the category "
                f"id {category}, which is none of the {len(classes)} known ids"
            )
        segments.append(
            {**segment, "category_id": classes[category], "isthing": category in things}
        )
    return segments


def semantic(
    name: str,
    *,
    image_root: str,
    sem_seg_root: str,
    hint: str,
    image_ext: str = "jpg",
    gt_ext: str = "png",
    evaluator_type: str = "sem_seg",
    ignore_label: int = 255,
    **metadata: Any,
) -> None:
    """Registers two folders, of images and of label maps under the same names."""

    def load() -> list[Record]:
        for folder in (image_root, sem_seg_root):
            require(folder, hint)
            if not any(os.scandir(folder)):
                raise FileNotFoundError(f"{folder} is empty. {hint}")
        return load_sem_seg(sem_seg_root, image_root, gt_ext=gt_ext, image_ext=image_ext)

    add(
        name,
        load,
        image_root=image_root,
        sem_seg_root=sem_seg_root,
        evaluator_type=evaluator_type,
        ignore_label=ignore_label,
        **metadata,
    )


def instances(
    name: str,
    categories: Sequence[Category],
    *,
    image_root: str,
    json_file: str,
    hint: str,
    **metadata: Any,
) -> None:
    """Registers a data set in COCO's instance form.

    Contiguous ids are positions in ``categories``.
    """

    def load() -> list[Record]:
        require(image_root, hint)
        require(json_file, hint)
        try:  # the ids are for messages about single annotations
            return load_coco_json(json_file, image_root, name, ["id"])
        except (AssertionError, KeyError) as error:
            raise ValueError(f"{json_file}: {error.args[0]}") from error

    add(
        name,
        load,
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=[c["name"] for c in categories],
        thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
        **metadata,
    )
