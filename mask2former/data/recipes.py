"""What INPUT.DATASET_MAPPER_NAME stands for: targets, augmentations and settings of the mapper."""

from typing import Any, Literal

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import build_augmentation

from .augmentation import lsj_from_config, shortest_edge_from_config

TargetKind = Literal["semantic", "panoptic", "instance"]
Extra = Literal["boxes", "ignore", "padding_mask", "sem_seg"]
# Which targets to drop: none; those outside of the image; those without a pixel.
DropPolicy = Literal["none", "outside", "empty"]

# INPUT.DATASET_MAPPER_NAME: kind of target, recipe, extra keys, targets that it drops.
MAPPERS: dict[str, tuple[TargetKind, str, tuple[Extra, ...], DropPolicy]] = {
    "mask_former_semantic": ("semantic", "shortest_edge", (), "none"),
    "mask_former_panoptic": ("panoptic", "shortest_edge", ("sem_seg",), "none"),
    "mask_former_instance": ("instance", "shortest_edge", (), "none"),
    "coco_panoptic_lsj": ("panoptic", "lsj", ("boxes",), "none"),
    "coco_instance_lsj": ("instance", "lsj", ("boxes", "padding_mask"), "outside"),
}


def settings_from_config(
    cfg: CfgNode, is_train: bool = True, name: str | None = None
) -> dict[str, Any]:
    """Return the arguments of `DatasetMapper` for a config.

    Args:
        name: of the recipe; None for INPUT.DATASET_MAPPER_NAME.

    Raises:
        ValueError: the name is unknown.
    """
    name = name or cfg.INPUT.DATASET_MAPPER_NAME
    if name not in MAPPERS:
        raise ValueError(
            f"INPUT.DATASET_MAPPER_NAME: expected one of {', '.join(MAPPERS)}, got {name!r}"
        )
    target, recipe, extras, drop = MAPPERS[name]
    settings = {
        "is_train": is_train,
        "target": target,
        "image_format": cfg.INPUT.FORMAT,
        **_labels(cfg),
        "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        "drop": "empty" if cfg.INPUT.DROP_EMPTY_TARGETS else drop,
        "extras": (*extras, "ignore") if cfg.MODEL.MASK_FORMER.IGNORE_VOID else extras,
    }
    if not is_train:
        return settings | {"augmentations": build_augmentation(cfg, is_train=False)}
    if recipe == "lsj":
        augmentations = lsj_from_config(cfg)
        side = cfg.INPUT.IMAGE_SIZE
    else:
        augmentations = shortest_edge_from_config(cfg, area_constraint=target != "instance")
        side = cfg.INPUT.SIZE_DIVISIBILITY
    return settings | {
        "augmentations": augmentations,
        "pad_to": (side, side) if side > 0 else None,
    }


def _labels(cfg: CfgNode) -> dict[str, Any]:
    """Return what the numbers in semantic maps mean, by the metadata of the first dataset."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]) if cfg.DATASETS.TRAIN else None
    ignore_label = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    labels = getattr(metadata, "sem_seg_labels", None)
    if labels is None:
        return {"ignore_label": getattr(metadata, "ignore_label", ignore_label)}
    # The dataset's own ignore label may be the new number of a class.
    is_free = ignore_label >= len(labels)
    return {"sem_seg_labels": labels, "ignore_label": ignore_label if is_free else 65535}
