"""The five published mapper classes under their names and with their arguments.

Each is ``DatasetMapper`` with some of its arguments fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from .mappers import DatasetMapper
from .recipes import MAPPERS

Augmentations = Sequence[T.Augmentation | T.Transform]


class _Published(DatasetMapper):
    """What the five have in common: their ``name`` in MAPPERS fixes target, extras and drops."""

    name = ""

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        settings = DatasetMapper.from_config(cfg, is_train, name=cls.name)
        del settings["target"]
        return settings

    def _set_up(self, is_train: bool, **settings: Any) -> None:
        target, _, extras, drop = MAPPERS[self.name]
        settings = {"extras": extras, "drop": drop} | settings
        DatasetMapper.__init__(self, is_train, target=target, **settings)


class MaskFormerSemanticDatasetMapper(_Published):
    """mask_former_semantic. ``size_divisibility`` is the side of the square to pad to.

    ``ours`` are further arguments of ``DatasetMapper``, here and below.
    """

    name = "mask_former_semantic"

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: Augmentations,
        image_format: str,
        ignore_label: int = 255,
        size_divisibility: int = -1,
        **ours: Any,
    ) -> None:
        self._set_up(
            is_train,
            augmentations=augmentations,
            image_format=image_format,
            ignore_label=ignore_label,
            **({"pad_to": _square(size_divisibility)} | ours),
        )


class MaskFormerPanopticDatasetMapper(MaskFormerSemanticDatasetMapper):
    """mask_former_panoptic, with the arguments of the semantic one."""

    name = "mask_former_panoptic"


class MaskFormerInstanceDatasetMapper(_Published):
    """mask_former_instance. ``size_divisibility`` is the side of the square to pad to."""

    name = "mask_former_instance"

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: Augmentations,
        image_format: str,
        size_divisibility: int = -1,
        **ours: Any,
    ) -> None:
        self._set_up(
            is_train,
            augmentations=augmentations,
            image_format=image_format,
            **({"pad_to": _square(size_divisibility)} | ours),
        )


class COCOPanopticNewBaselineDatasetMapper(_Published):
    """coco_panoptic_lsj. ``tfm_gens`` are the augmentations."""

    name = "coco_panoptic_lsj"

    @configurable
    def __init__(
        self, is_train: bool = True, *, tfm_gens: Augmentations, image_format: str, **ours: Any
    ) -> None:
        self._set_up(is_train, augmentations=tfm_gens, image_format=image_format, **ours)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        settings = super().from_config(cfg, is_train)
        return settings | {"tfm_gens": settings.pop("augmentations")}


class COCOInstanceNewBaselineDatasetMapper(COCOPanopticNewBaselineDatasetMapper):
    """coco_instance_lsj, with the arguments of the panoptic one."""

    name = "coco_instance_lsj"


def _square(side: int) -> tuple[int, int] | None:
    return (side, side) if side > 0 else None
