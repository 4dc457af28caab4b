"""Class tables, registration and small functions of the data modules, as others call them."""

from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures.masks import polygons_to_bitmask
from torch import Tensor

from ..data.augmentation import lsj_from_config
from ..data.categories import load_categories
from ..data.datasets.ytvis import VideoLoader


def _table(family: str, *keys: str) -> list[dict[str, Any]]:
    return [{key: c[key] for key in keys} for c in load_categories(family)]


ADE20K_150_CATEGORIES = _table("ade20k", "color", "id", "isthing", "name")
ADE_CATEGORIES = [
    {"id": c["id"], "name": c["instance_name"]} for c in load_categories("ade20k") if c["isthing"]
]
MAPILLARY_VISTAS_SEM_SEG_CATEGORIES = _table("mapillary_vistas", "color", "id", "isthing", "name")
COCO_STUFF_10K_CATEGORIES = _table("coco_stuff_10k", "id", "name")
YTVIS_CATEGORIES_2019 = [{**c, "isthing": 1} for c in _table("ytvis_2019", "color", "id", "name")]
YTVIS_CATEGORIES_2021 = [{**c, "isthing": 1} for c in _table("ytvis_2021", "color", "id", "name")]


def _thing_metadata(categories: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata of things: names, colours and the contiguous ids of dataset ids."""
    return {
        "thing_dataset_id_to_contiguous_id": {c["id"]: i for i, c in enumerate(categories)},
        "thing_classes": [c["name"] for c in categories],
        "thing_colors": [c["color"] for c in categories],
    }


ytvis_2019_metadata = partial(_thing_metadata, YTVIS_CATEGORIES_2019)
ytvis_2021_metadata = partial(_thing_metadata, YTVIS_CATEGORIES_2021)


def register_ytvis_instances(
    name: str, metadata: dict[str, Any], json_file: str, image_root: str
) -> None:
    """Register a dataset in the form of YouTube-VIS.

    Its records are those of `mask2former.data.datasets.ytvis.VideoLoader`.

    Args:
        metadata: more metadata; the classes are read from the file if there are none here.
    """
    DatasetCatalog.register(name, VideoLoader(name))
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="ytvis", **metadata
    )


def build_transform_gen(cfg: CfgNode, is_train: bool) -> list[T.Augmentation | T.Transform]:
    """Return the augmentations of the `coco_*_lsj` mappers, which pad with grey.

    Raises:
        ValueError: not for training.
    """
    if not is_train:
        raise ValueError("build_transform_gen: there are augmentations for training only.")
    return [*lsj_from_config(cfg)[:-1], T.FixedSizeCrop((cfg.INPUT.IMAGE_SIZE,) * 2)]


def convert_coco_poly_to_mask(
    segmentations: list[list[list[float]]], height: int, width: int
) -> Tensor:
    """Draw objects, each a list of polygons [x0, y0, x1, y1, ...] in pixels: (N, H, W), bool."""
    masks = [torch.from_numpy(polygons_to_bitmask(p, height, width)) for p in segmentations]
    return torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool)
