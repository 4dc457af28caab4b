"""Writes the shapes data set: pictures, and their annotations in COCO's three forms."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from mask2former.data.categories import load_categories
from mask2former.data.preparation import build_folder, map_parallel, write_json
from mask2former.data.synthetic.scene import Backdrop, Scene, random_scene, render

__all__ = ["write_shapes"]

Array = np.ndarray

VERSION = 1  # raise it whenever the same seed gives other pictures
_JPEG_QUALITY = 95


def write_shapes(
    output: Path,
    *,
    seed: int = 0,
    train: int = 2000,
    val: int = 200,
    size: int = 128,
    workers: int = 2,
    overwrite: bool = False,
) -> bool:
    """Draws the data set into ``output``/shapes, whole or not at all.

    The tree, where SPLIT is train or val::

        images/SPLIT/*.jpg               pictures of size x size
        annotations/instances_SPLIT.json COCO instances, masks as compressed RLE of what is visible
        annotations/panoptic_SPLIT.json  COCO panoptic, with panoptic_SPLIT/*.png
        sem_seg_SPLIT/*.png              class of every pixel, 0..9, in the order of the categories

    Args:
        seed: the same seed gives the same bytes, whatever the number of workers.
        train, val: numbers of images.
        size: side of the images in pixels.
        workers: processes.
        overwrite: replace a data set that was drawn with other parameters.

    Returns:
        False if the same data set was there already.

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: there is another data set, and ``overwrite`` is False.
    """
    _check_arguments(seed=seed, train=train, val=val, size=size)
    counts = {"train": train, "val": val}
    parameters = {"version": VERSION, "seed": seed, "size": size, **counts}

    def fill(folder: Path) -> None:
        for index, (split, count) in enumerate(counts.items()):
            draw = functools.partial(_draw_image, folder, split, (seed, index), size)
            label = f"drawing {split}"
            records = map_parallel(draw, range(1, count + 1), workers=workers, label=label)
            _write_annotations(folder, split, records)

    return build_folder(Path(output) / "shapes", parameters, fill, overwrite=overwrite)


def _check_arguments(*, seed: int, train: int, val: int, size: int) -> None:
    for name, value, least in (("seed", seed, 0), ("train", train, 1), ("val", val, 1)):
        if value < least:
            raise ValueError(f"{name} has to be {least} or more, not {value}")
    if not 32 <= size <= 2048:
        raise ValueError(f"size has to be 32 to 2048 pixels, not {size}")


def _draw_image(
    folder: Path, split: str, seeds: tuple[int, int], size: int, image_id: int
) -> dict[str, Any]:
    """Draws one picture, writes its files, and returns what the json files say about it."""
    rng = np.random.default_rng([*seeds, image_id])
    scene = random_scene(rng, size)
    pixels, owner = render(scene, rng)
    segments, panoptic, semantic = _segments(scene, owner, image_id)
    name = f"{image_id:06d}"
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _write_image(folder / "images" / split / f"{name}.jpg", pixels[..., ::-1], quality)
    _write_image(folder / f"panoptic_{split}" / f"{name}.png", _id_to_bgr(panoptic))
    _write_image(folder / f"sem_seg_{split}" / f"{name}.png", semantic)
    image = {"id": image_id, "file_name": f"{name}.jpg", "height": size, "width": size}
    return {"image": image, "segments": segments}


def _segments(scene: Scene, owner: Array, image_id: int) -> tuple[list[dict], Array, Array]:
    """Splits a picture into its segments: stuff, one a class, then things.

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
        segment_id = _free_id(category["color"], {s["id"] for s in segments})
        segment = {"id": segment_id, "category_id": category["id"], "image_id": image_id}
        segments.append({**segment, "isthing": category["isthing"], **encode_mask(mask)})
        panoptic[mask], semantic[mask] = segment_id, index
    return segments, panoptic, semantic


def _free_id(color: Sequence[int], taken: set[int]) -> int:
    """A segment id that, drawn as RGB, looks like the class."""
    step = 0
    while True:
        # Each further thing of a class is a shade away; shades turn back at 0 and 255.
        tones = (255 - abs((c + step * s) % 510 - 255) for c, s in zip(color, (-23, 14, 31)))
        red, green, blue = tones
        segment_id = red + 256 * green + 65536 * blue
        if segment_id and segment_id not in taken:
            return segment_id
        step += 1


def encode_mask(mask: Array) -> dict[str, Any]:
    """Returns COCO's ``segmentation`` (compressed RLE), ``bbox`` (XYWH) and ``area`` of a mask.

    Args:
        mask: (H, W) bool with at least one pixel.
    """
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    box = [int(v) for v in mask_util.toBbox(rle)]
    segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}
    return {"segmentation": segmentation, "bbox": box, "area": int(mask.sum()), "iscrowd": 0}


def _id_to_bgr(ids: Array) -> Array:
    """Segment ids (H, W) as the image that OpenCV writes as COCO's red + 256 green + 65536 blue."""
    return np.stack([ids >> 16, (ids >> 8) & 255, ids & 255], axis=-1).astype(np.uint8)


def _write_image(path: Path, image: Array, options: Sequence[int] = ()) -> None:
    done, encoded = cv2.imencode(path.suffix, image, options)
    if not done:
        raise OSError(f"OpenCV could not encode {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())


def _write_annotations(folder: Path, split: str, records: list[dict[str, Any]]) -> None:
    """Writes the instance and the panoptic json of a split."""
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
    head = {"info": {"description": f"shapes, {split}", "version": str(VERSION)}, "images": images}
    kinds = {
        "instances": (instances, [c for c in categories if c["isthing"]]),
        "panoptic": (panoptic, list(categories)),
    }
    for kind, (rows, table) in kinds.items():
        content = {**head, "annotations": rows, "categories": table}
        write_json(folder / "annotations" / f"{kind}_{split}.json", content)


def _without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}
