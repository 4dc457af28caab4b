"""The mapper of images: reads what a record names and makes what the model takes.

One class stands for the five published ones; their names in INPUT.DATASET_MAPPER_NAME choose what
it does, and their classes are in ``published_mappers``.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.structures import Boxes, Instances

from ..annotations.readers.label_maps import LabelMeaning, require_known
from ..config.arguments import configurable
from ..errors import UserError
from ..formats.images import check_size, read_annotated
from ..formats.label_maps import read_labels, read_panoptic_png, values_in
from ..formats.segmentations import describe
from .agreement.class_order import mapper_labels
from .agreement.num_classes import check_classes
from .augmentation import lsj_from_config, shortest_edge_from_config
from .geometry import Geometry, draw, to_planes
from .targets import (
    Targets,
    compact_ids,
    ignore_map,
    instance_targets,
    padding_mask,
    panoptic_targets,
    relabel,
    semantic_targets,
)

logger = logging.getLogger(__name__)

Size = tuple[int, int]  # H, W in pixels
IMAGE_FILL = 128  # grey of the padding

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


class DatasetMapper:
    """Map a record in detectron2's format to the input of the model.

    A record holds "file_name" and, for training, according to the kind of target:

    - semantic: "sem_seg_file_name", a map of class numbers, and no "annotations";
    - panoptic: "pan_seg_file_name", a COCO panoptic PNG, "segments_info", and perhaps
      "sem_seg_file_name";
    - instance: "annotations", each with "category_id", "segmentation" (polygons, RLE or bitmap)
      and perhaps "iscrowd" and "id".

    Categories are contiguous numbers from 0 on. Crowd becomes no target. An image without any
    target gets instances of length 0.

    The result is the record without the keys that were read, and

    - "image": (C, H, W) uint8 in [0, 255], and "height", "width" of the file;
    - "instances" in training: ``gt_classes`` (N,) int64 and ``gt_masks`` (N, H, W) bool;
    - "sem_seg" (semantic; panoptic with that extra and such a file): (H, W) int64;
    - the other extras, see below.

    Args:
        is_train: whether to make targets.
        target: the kind of target.
        augmentations: of detectron2, applied in order.
        image_format: channels of the image, "RGB" or "BGR".
        ignore_label: of pixels without a class in semantic maps; they belong to no target.
        pad_to: (H, W) that smaller results are padded to on the right and below: images with 128,
            semantic maps with ``ignore_label``, masks with False. (The published padding crops
            larger ones silently; here they stay.)
        drop: leaves out no target, those outside of the image, or all those without a pixel.
        extras: "boxes" adds ``gt_boxes``, tight ones; "padding_mask" (H, W) bool is True on the
            padding; "ignore" (H, W) bool is True on padding and on ignored, void and crowd pixels
            that no target covers, which the mask losses can leave out; "sem_seg" see above.
        num_classes: K, of the model; None leaves categories unchecked.
        sem_seg_labels: the numbers that stand for the classes 0, 1, ... in semantic maps, where
            they are others; numbers that it lacks are ignored. Where a record has this key, or
            "ignore_label", that is what its map means.
        exif_rotation: see `read_photo`.

    Raises:
        FileNotFoundError: on a call, a file is missing.
        UserError: on a call, a file or annotation cannot be used; names the file and the id.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        target: TargetKind,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        ignore_label: int = 255,
        pad_to: tuple[int, int] | None = None,
        drop: DropPolicy = "none",
        extras: Collection[Extra] = (),
        num_classes: int | None = None,
        sem_seg_labels: Sequence[int] | None = None,
        exif_rotation: bool = True,
    ) -> None:
        if target not in get_args(TargetKind):
            kinds = ", ".join(get_args(TargetKind))
            raise UserError(f"target: expected one of {kinds}, got {target!r}")
        self.is_train = is_train
        self.target = target
        self.augmentations = list(augmentations)
        self.image_format = image_format
        self.ignore_label = ignore_label
        self.pad_to = pad_to
        self.drop = drop
        self.extras = frozenset(extras)
        self.num_classes = num_classes
        self.sem_seg_labels = sem_seg_labels
        self.exif_rotation = exif_rotation
        mode = "training" if is_train else "inference"
        logger.info("Augmentations in %s: %s", mode, self.augmentations)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool = True, name: str | None = None
    ) -> dict[str, Any]:
        """Return the arguments of `DatasetMapper` for a config.

        Args:
            name: of the recipe; None for INPUT.DATASET_MAPPER_NAME.

        Raises:
            UserError: the name is unknown.
        """
        name = name or cfg.INPUT.DATASET_MAPPER_NAME
        if name not in MAPPERS:
            raise UserError(
                f"INPUT.DATASET_MAPPER_NAME: expected one of {', '.join(MAPPERS)}, got {name!r}"
            )
        target, recipe, extras, drop = MAPPERS[name]
        settings = {
            "is_train": is_train,
            "target": target,
            "image_format": cfg.INPUT.FORMAT,
            **mapper_labels(cfg),
            "exif_rotation": cfg.INPUT.EXIF_ROTATION,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "drop": "empty" if cfg.INPUT.DROP_EMPTY_TARGETS else drop,
            "extras": (*extras, "ignore") if cfg.MODEL.MASK_FORMER.IGNORE_VOID else extras,
        }
        if not is_train:
            return settings | {"augmentations": build_augmentation(cfg, is_train=False)}
        if recipe == "lsj":
            augmentations, side = lsj_from_config(cfg), cfg.INPUT.IMAGE_SIZE
        else:
            augmentations = shortest_edge_from_config(cfg, area_constraint=target != "instance")
            side = cfg.INPUT.SIZE_DIVISIBILITY
        pad_to = (side, side) if side > 0 else None
        return settings | {"augmentations": augmentations, "pad_to": pad_to}

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Map one record, which stays as it is; see the class for keys and errors."""
        result = dict(record)
        if not self.is_train or self.target == "panoptic":
            result.pop("annotations", None)
        path, exif_rotation = record["file_name"], self.exif_rotation
        image = read_annotated(record, path, self.image_format, exif_rotation=exif_rotation)
        result["height"], result["width"] = image.shape[:2]
        if not self.is_train:
            image = draw(self.augmentations, image).apply_image(image)
            result["image"] = to_planes(image, image.shape[:2], IMAGE_FILL)
            return result
        try:
            return self._add_targets(result, image)
        except UserError as error:
            raise UserError(f"{result['file_name']}: {error}") from error

    def _add_targets(self, result: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
        """Add the keys that training needs to ``result``, whose size is filled in."""
        labels = self._read_sem_seg(result)
        geometry = draw(self.augmentations, image, labels)
        image = geometry.apply_image(image)
        size = image.shape[:2]
        canvas = size if self.pad_to is None else tuple(map(max, size, self.pad_to))
        result["image"] = to_planes(image, canvas, IMAGE_FILL)
        if labels is not None:
            labels = geometry.apply_labels(labels, corner=True, fill=self.ignore_label)
            result["sem_seg"] = torch.full(canvas, self.ignore_label)
            result["sem_seg"][: size[0], : size[1]] = torch.from_numpy(labels.astype(np.int64))

        crowd = None
        if self.target == "semantic":
            targets = semantic_targets(labels, self.ignore_label, canvas, self.num_classes)
        elif self.target == "panoptic":
            targets = self._read_segments(result, geometry, canvas)
        else:
            annotations = self._take_annotations(result)
            targets = instance_targets(annotations, geometry, size, canvas)
            if "ignore" in self.extras:
                crowd = instance_targets(annotations, geometry, size, canvas, crowd=True).masks
        if self.extras & {"ignore", "padding_mask"}:
            padding = padding_mask(geometry, size, canvas)
            if "ignore" in self.extras:
                result["ignore"] = torch.from_numpy(ignore_map(targets.masks, crowd, padding))
            if "padding_mask" in self.extras:
                result["padding_mask"] = torch.from_numpy(padding)
        result["instances"] = self._to_instances(targets, canvas)
        return self._finish(result, targets, geometry)

    def _finish(
        self, result: dict[str, Any], targets: Targets, geometry: Geometry
    ) -> dict[str, Any]:
        """Return ``result``; a hook for subclasses that make more of the targets."""
        return result

    def _read_sem_seg(self, result: dict[str, Any]) -> np.ndarray | None:
        """Take and read the semantic map (H, W), where this mapper wants one."""
        if self.target != "semantic" and "sem_seg" not in self.extras:
            return None
        if self.target == "semantic" and "annotations" in result:
            raise UserError(
                "the record has 'annotations', which targets of kind semantic would pass over; "
                "choose another dataset or INPUT.DATASET_MAPPER_NAME"
            )
        path = result.pop("sem_seg_file_name", None)
        if path is None:
            if self.target == "semantic":
                raise UserError(_missing_key("sem_seg_file_name", result, "semantic"))
            return None
        labels = read_labels(path)
        check_size(result, labels.shape, path)
        numbers = result.pop("sem_seg_labels", self.sem_seg_labels)
        ignored = result.pop("ignore_label", self.ignore_label)
        if numbers is not None:
            return relabel(labels, numbers, self.ignore_label)
        if self.num_classes is not None:
            meaning = LabelMeaning([""] * self.num_classes, ignored)
            require_known(values_in(labels), meaning, path)
        if ignored != self.ignore_label:
            return np.where(labels == ignored, np.uint16(self.ignore_label), labels)
        return labels

    def _read_segments(self, result: dict[str, Any], geometry: Geometry, canvas: Size) -> Targets:
        for key in ("pan_seg_file_name", "segments_info"):
            if key not in result:
                raise UserError(_missing_key(key, result, "panoptic"))
        segments = result["segments_info"]
        classes = [segment["category_id"] for segment in segments]
        check_classes(classes, self.num_classes, lambda i: f"segment {segments[i]['id']}")
        path = result.pop("pan_seg_file_name")
        ids = read_panoptic_png(path)
        check_size(result, ids.shape, path)
        try:
            codes = compact_ids(ids, segments)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        return panoptic_targets(geometry.apply_labels(codes), segments, canvas)

    def _take_annotations(self, result: dict[str, Any]) -> list[Mapping[str, Any]]:
        if "annotations" not in result:
            raise UserError(_missing_key("annotations", result, "instance"))
        annotations = result.pop("annotations")
        classes = [annotation["category_id"] for annotation in annotations]
        check_classes(classes, self.num_classes, lambda i: describe(annotations[i], i))
        return annotations

    def _to_instances(self, targets: Targets, canvas: Size) -> Instances:
        if self.drop == "outside":
            targets = targets.select(targets.inside)
        elif self.drop == "empty":
            targets = targets.select(targets.masks.any(axis=(1, 2)))
        instances = Instances(canvas)
        instances.gt_classes = torch.from_numpy(targets.classes)
        instances.gt_masks = torch.from_numpy(targets.masks)
        if "boxes" in self.extras:
            instances.gt_boxes = Boxes(torch.from_numpy(targets.boxes()))
        return instances


def _missing_key(key: str, record: Mapping[str, Any], target: str) -> str:
    return (
        f"targets of kind {target} need {key!r}, the record has {', '.join(sorted(record))}; "
        "choose another dataset or INPUT.DATASET_MAPPER_NAME"
    )
