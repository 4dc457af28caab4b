"""Mapping of photos for training by one worker, beside detectron2's mapper."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper as PeerMapper
from detectron2.structures import BoxMode
from PIL import Image, ImageDraw

from mask2former import load_config
from mask2former.data.augmentation import lsj_from_config
from mask2former.data.mappers import DatasetMapper

from ..models import OUTPUT, ROOT, picture
from ..timing import Row, compare

CONFIGS = {
    "instance": ROOT / "configs/coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml",
    "panoptic": ROOT / "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml",
}
SIZE = (480, 640)  # H, W of a photo
OBJECTS, SEGMENTS = 8, 12  # of a photo, about as many as in COCO


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Measure images per second of one worker, instance and panoptic, LSJ to 1024."""
    count = 4 if quick else 12
    for task in CONFIGS:
        peer_form = "segments" if task == "panoptic" else task
        row = compare(
            f"mapping {count} photos 640x480, {task}, LSJ to 1024, one worker",
            mapping(_our_mapper(task), _records(task, count)),
            mapping(_peer_mapper(task), _records(peer_form, count)),
            rounds,
            peer_name="detectron2's DatasetMapper, bitmask masks",
            min_ratio=1.5,
        )
        yield row
        yield _per_second(row, count)


def _per_second(row: Row, count: int) -> Row:
    return {
        "what": row["what"] + ", images per second",
        "unit": "1/s",
        "ours": count / row["ours"],
        "peer": count / row["peer"],
        "peer_name": row["peer_name"],
        "ratio": row["ratio"],
        "rounds": row["rounds"],
    }


def mapping(mapper: Callable[[dict], dict], records: list[dict]) -> Callable[[], Any]:
    """Map all records, with the same random numbers in every call."""

    def work() -> None:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002  detectron2's augmentations draw from it
        torch.manual_seed(0)
        for record in records:
            mapper(dict(record))

    return work


def _config(task: str) -> CfgNode:
    return load_config(CONFIGS[task])


def _our_mapper(task: str) -> DatasetMapper:
    return DatasetMapper(_config(task), True)


def _peer_mapper(task: str) -> PeerMapper:
    cfg = _config(task)
    return PeerMapper(
        is_train=True,
        augmentations=lsj_from_config(cfg),
        image_format=cfg.INPUT.FORMAT,
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )


def _records(form: str, count: int) -> list[dict[str, Any]]:
    return [_record(form, seed) for seed in range(count)]


def _record(form: str, seed: int) -> dict[str, Any]:
    """Return a photo with annotations.

    Args:
        form: "instance", objects as RLEs (detectron2 crops polygons only with another package);
            "panoptic", a PNG; or "segments", what that shows as RLEs.
        seed: of the photo.
    """
    height, width = SIZE
    path = OUTPUT / "photos" / f"{seed}.jpg"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(height, width, seed)).save(path, quality=90)
    record = {"file_name": str(path), "height": height, "width": width, "image_id": seed}
    if form == "instance":
        outlines = [[outline(seed, i)] for i in range(OBJECTS)]
        rles = [mask_util.merge(mask_util.frPyObjects(x, height, width)) for x in outlines]
        return record | {"annotations": [_annotation(i, rle) for i, rle in enumerate(rles)]}
    ids = _segment_map(seed)
    classes = {int(i): int(i) for i in np.unique(ids)}
    if form == "segments":
        masks = {
            i: mask_util.encode(np.asfortranarray((ids == i).astype(np.uint8))) for i in classes
        }
        return record | {"annotations": [_annotation(c, masks[i]) for i, c in classes.items()]}
    png = path.with_suffix(".png")
    _save_ids(ids, png)
    segments = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in classes.items()]
    return record | {"pan_seg_file_name": str(png), "segments_info": segments}


def _annotation(number: int, segmentation: Any) -> dict[str, Any]:
    return {
        "category_id": number % 80,
        "segmentation": segmentation,
        "bbox": [0, 0, SIZE[1], SIZE[0]],
        "bbox_mode": BoxMode.XYWH_ABS,
        "iscrowd": 0,
    }


def outline(seed: int, number: int) -> list[float]:
    """Return a polygon of 24 corners around a random place, [x0, y0, x1, y1, ...]."""
    rng = np.random.default_rng([seed, number])
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = rng.uniform(20, 130) * rng.uniform(0.7, 1.0, 24)
    x = rng.uniform(80, 560) + radius * np.cos(angle)
    y = rng.uniform(80, 400) + radius * np.sin(angle)
    corners = np.stack([x.clip(0, SIZE[1]), y.clip(0, SIZE[0])], 1)
    return corners.round(2).flatten().tolist()


def _segment_map(seed: int) -> np.ndarray:
    """Return ids (H, W) from 1 on, that cover the whole photo."""
    canvas = Image.new("I", SIZE[::-1], 1)
    draw = ImageDraw.Draw(canvas)
    for number in range(2, SEGMENTS + 1):
        draw.polygon(outline(seed, number), fill=number)
    return np.asarray(canvas)


def _save_ids(ids: np.ndarray, path: Path) -> None:
    if not path.is_file():
        zeros = np.zeros_like(ids)
        Image.fromarray(np.stack([ids, zeros, zeros], 2).astype(np.uint8)).save(path)
