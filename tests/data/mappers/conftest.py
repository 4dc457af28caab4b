"""A record with annotations of every kind, and the mapper that the tests are about."""

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from detectron2.projects.deeplab import add_deeplab_config
from PIL import Image

from mask2former import add_maskformer2_config
from mask2former.data.augmentation import shortest_edge
from mask2former.data.mappers import DatasetMapper

H, W = 40, 60
CHAIN = shortest_edge((30, 45, 66), 90, crop=T.RandomCrop("absolute", (36, 44)))


def rle(mask: np.ndarray) -> dict[str, Any]:
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def make_mapper(target: str, chain=CHAIN, **settings) -> DatasetMapper:
    return DatasetMapper(True, target=target, augmentations=chain, image_format="RGB", **settings)


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """An image with annotations of every kind, some of them crowd, for 3 classes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:H, :W]
    Image.fromarray(np.stack([x * 4, y * 6, x + y], 2).astype(np.uint8)).save(tmp_path / "a.png")
    blocks = rng.integers(0, 4, (H // 5, W // 5)).repeat(5, 0).repeat(5, 1)
    Image.fromarray(np.array([0, 1, 2, 255], np.uint8)[blocks]).save(tmp_path / "sem.png")
    ids = np.array([0, 7, 900, 70000])[rng.integers(0, 4, (H // 5, W // 5))]
    ids = ids.repeat(5, 0).repeat(5, 1)
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "pan.png")
    disc = (y - 20) ** 2 + (x - 30) ** 2 < 150
    return {
        "file_name": str(tmp_path / "a.png"),
        "image_id": 42,
        "height": H,
        "width": W,
        "sem_seg_file_name": str(tmp_path / "sem.png"),
        "pan_seg_file_name": str(tmp_path / "pan.png"),
        "segments_info": [
            {"id": 70000, "category_id": 2},
            {"id": 7, "category_id": 1, "iscrowd": 1},
            {"id": 900, "category_id": 0, "iscrowd": 0},
        ],
        "annotations": [
            {"id": 1, "category_id": 1, "segmentation": [[5.0, 6.0, 30.0, 8.0, 20.0, 35.0]]},
            {"id": 2, "category_id": 2, "segmentation": disc.astype(np.uint8), "iscrowd": 0},
            {"id": 3, "category_id": 0, "segmentation": rle(disc[:, ::-1]), "iscrowd": 1},
            {"id": 4, "category_id": 0, "segmentation": rle(x > 50)},
        ],
    }


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.SIZE_DIVISIBILITY = 64, (50,), 128
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    return cfg
