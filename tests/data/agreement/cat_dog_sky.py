"""Datasets of one photo of 4 x 6 pixels: cat in its left third, dog in the middle, sky right."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from PIL import Image

from mask2former.config import get_config
from mask2former.data import build_train_loader

H, W = 4, 6
AREAS = {"cat": slice(0, 2), "dog": slice(2, 4), "sky": slice(4, 6)}  # columns


def photo(root: Path) -> str:
    root.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(root / "a.png")
    return str(root)


def mask_of(name: str) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[:, AREAS[name]] = True
    return mask


def label_map(path: Path, numbers: dict[str, int]) -> None:
    labels = np.zeros((H, W), np.uint8)
    for name, number in numbers.items():
        labels[mask_of(name)] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def instances(root: Path, name: str, ids: dict[str, int], *shown: str) -> dict[str, Any]:
    """An entry for a json with the category ids of the names, and an object of each, or of some."""
    annotations = [
        {"id": i, "image_id": 1, "category_id": ids[shows], "iscrowd": 0, "area": 8.0}
        | {"bbox": [AREAS[place].start, 0, 2, H]}
        | {"segmentation": [np.ravel([[x, y] for x, y in _corners(place)]).tolist()]}
        for i, (place, shows) in enumerate(zip(("cat", "dog"), shown or ids), start=1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": H, "width": W}],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for n, i in ids.items()],
    }
    path = root / f"{name}.json"
    image_root = photo(root / "photos")
    path.write_text(json.dumps(content))
    entry = {"name": name, "task": "instance", "image_root": image_root}
    return entry | {"annotations": str(path)}


def _corners(place: str) -> list[tuple[int, int]]:
    x0, x1 = AREAS[place].start, AREAS[place].stop
    return [(x0, 0), (x1, 0), (x1, H), (x0, H)]


def panoptic(
    root: Path, name: str, ids: dict[str, int], numbers: dict[str, int] | None = None,
    things: tuple[str, ...] = ("cat", "dog"),
) -> dict[str, Any]:  # fmt: skip
    """An entry for a panoptic json with a segment of each; and for a label map with numbers."""
    segments = {n: k for k, n in enumerate(ids, start=1)}
    pngs = np.zeros((H, W, 3), np.uint8)
    for n, k in segments.items():
        pngs[mask_of(n), 0] = k
    folder = root / f"{name}_png"
    folder.mkdir(parents=True)
    Image.fromarray(pngs).save(folder / "a.png")
    infos = [{"id": k, "category_id": ids[n], "iscrowd": 0, "area": 8} for n, k in segments.items()]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": H, "width": W}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": infos}],
        "categories": [{"id": i, "name": n, "isthing": int(n in things)} for n, i in ids.items()],
    }
    path = root / f"{name}.json"
    path.write_text(json.dumps(content))
    entry = {"name": name, "task": "panoptic", "image_root": photo(root / "photos")}
    entry |= {"annotations": str(path), "panoptic_root": str(folder)}
    if numbers:
        label_map(root / f"{name}_labels" / "a.png", numbers)
        entry["sem_seg_root"] = str(root / f"{name}_labels")
    return entry


def sem_seg(root: Path, name: str, numbers: dict[str, int], classes: Any, **more) -> dict[str, Any]:
    label_map(root / name / "a.png", numbers)
    entry = {"name": name, "task": "sem_seg", "image_root": photo(root / "photos")}
    return entry | {"sem_seg_root": str(root / name), "classes": classes, **more}


def config(*entries: dict, train: tuple, test: tuple, kind: str = "instance") -> CfgNode:
    cfg = get_config()
    cfg.DATASETS.CUSTOM = [dict(entry) for entry in entries]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
    cfg.INPUT.DATASET_MAPPER_NAME = f"mask_former_{kind}"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.COLOR_AUG_SSD = (H,), H, False
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.SIZE_DIVISIBILITY = False, -1
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.OBEY_RANDOM_FLIP = "none", True
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 1
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = -1
    return cfg


def targets(cfg: CfgNode) -> set[tuple[tuple[int, str], ...]]:
    """The targets that training gets, one set an image: class, and what lies there."""
    found = set()
    for (x,) in itertools.islice(build_train_loader(cfg), 12):
        objects = x["instances"]
        pairs = zip(objects.gt_classes.tolist(), objects.gt_masks.numpy())
        found.add(tuple(sorted((k, place_of(mask)) for k, mask in pairs)))
    return found


def place_of(mask: np.ndarray) -> str:
    return next(name for name in AREAS if (mask == mask_of(name)).all())


def prediction(names: list[str]) -> dict[str, Any]:
    """What a perfect model returns whose classes are in this order."""
    shown = [name for name in AREAS if name in names]
    ids = torch.zeros(H, W, dtype=torch.int32)
    objects = Instances((H, W))
    things = [name for name in shown if name != "sky"]
    objects.pred_masks = torch.from_numpy(np.stack([mask_of(name) for name in things]))
    objects.pred_classes = torch.tensor([names.index(name) for name in things])
    objects.scores = torch.ones(len(things))
    scores = torch.zeros(len(names), H, W)
    infos = []
    for i, name in enumerate(shown, start=1):
        ids[torch.from_numpy(mask_of(name))] = i
        scores[names.index(name)][torch.from_numpy(mask_of(name))] = 1
        infos.append({"id": i, "category_id": names.index(name), "isthing": name != "sky"})
    return {"instances": objects, "panoptic_seg": (ids, infos), "sem_seg": scores}


def score(evaluator: Any, name: str, names: list[str]) -> dict[str, Any]:
    (record,) = DatasetCatalog.get(name)
    evaluator.reset()
    evaluator.process([{"image_id": 1, "height": H, "width": W, **record}], [prediction(names)])
    return evaluator.evaluate()
