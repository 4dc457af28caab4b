"""Pictures of shapes, and their annotations in COCO's three forms."""

from pathlib import Path
from typing import Any

import numpy as np

from ...formats.images import write_image
from ...formats.json_files import write_json
from ...formats.label_maps import write_panoptic_png
from ..categories import load_categories
from ..preparation.annotations import encode_mask, free_id
from .scene import Backdrop, Scene, random_scene, render

Array = np.ndarray


def draw(
    folder: Path, split: str, image_id: int, rng: np.random.Generator, *, size: int
) -> dict[str, Any]:
    """Draw one image, write its files, and return what the json files say about it."""
    scene = random_scene(rng, size)
    pixels, owner = render(scene, rng)
    segments, panoptic, semantic = _segments(scene, owner, image_id)
    name = f"{image_id:06d}"
    write_image(folder / "images" / split / f"{name}.jpg", pixels)
    write_panoptic_png(folder / f"panoptic_{split}" / f"{name}.png", panoptic)
    write_image(folder / f"sem_seg_{split}" / f"{name}.png", semantic)
    image = {"id": image_id, "file_name": f"{name}.jpg", "height": size, "width": size}
    return {"image": image, "segments": segments}


def _segments(scene: Scene, owner: Array, image_id: int) -> tuple[list[dict], Array, Array]:
    """Split a picture into its segments: stuff, one a class, then things.

    Args:
        owner: (H, W) uint8 from ``render``.

    Returns:
        Segments with ``mask`` as RLE; the panoptic ids (H, W) int32; the classes (H, W) uint8.
    """
    backdrop: Backdrop = scene.backdrop
    masks = [(n, (owner == 0) & (backdrop.labels == i)) for i, n in enumerate(backdrop.names)]
    masks += [(thing.kind, owner == i) for i, thing in enumerate(scene.things, start=1)]
    segments: list[dict] = []
    panoptic, semantic = np.zeros(owner.shape, np.int32), np.zeros(owner.shape, np.uint8)
    classes = {c["name"]: (index, c) for index, c in enumerate(load_categories("shapes"))}
    for name, mask in masks:
        if not mask.any():
            continue
        index, category = classes[name]
        segment_id = free_id(category["color"], {s["id"] for s in segments})
        segment = {"id": segment_id, "category_id": category["id"], "image_id": image_id}
        segment |= {"isthing": category["isthing"], "iscrowd": 0, **encode_mask(mask)}
        segments.append(segment)
        panoptic[mask], semantic[mask] = segment_id, index
    return segments, panoptic, semantic


def write_annotations(
    folder: Path, split: str, records: list[dict[str, Any]], version: int
) -> None:
    """Write the instance and the panoptic json of a split."""
    categories = load_categories("shapes")
    images = [record["image"] for record in records]
    things = [s for record in records for s in record["segments"] if s["isthing"]]
    instances = [{**_without(s, "isthing"), "id": i} for i, s in enumerate(things, start=1)]
    panoptic = [
        {
            "image_id": record["image"]["id"],
            "file_name": f"{Path(record['image']['file_name']).stem}.png",
            "segments_info": [
                _without(s, "isthing", "image_id", "segmentation") for s in record["segments"]
            ],
        }
        for record in records
    ]
    head = {"info": {"description": f"shapes, {split}", "version": str(version)}, "images": images}
    kinds = {
        "instances": (instances, [c for c in categories if c["isthing"]]),
        "panoptic": (panoptic, list(categories)),
    }
    for kind, (rows, table) in kinds.items():
        content = {**head, "annotations": rows, "categories": table}
        write_json(folder / "annotations" / f"{kind}_{split}.json", content)


def _without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}
