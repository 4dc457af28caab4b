"""The datasets that are known by name; importing this reads no data.

They are looked for under the folder that the variable DETECTRON2_DATASETS names, "datasets" by
default. Those of images are registered here; those of videos when one of their names is asked for,
or by `register_video_datasets`. Names of others are left to them (see `catalog`).
"""

import os

from ...config import keys
from .builtin import (
    register_ade20k,
    register_ade20k_full,
    register_coco_panoptic,
    register_coco_stuff_10k,
    register_mapillary_vistas,
    register_shapes,
)
from .ytvis import register_ytvis

__all__ = ["register_all", "register_video_datasets"]

_IMAGES = (
    register_ade20k,
    register_ade20k_full,
    register_coco_panoptic,
    register_coco_stuff_10k,
    register_mapillary_vistas,
    register_shapes,
)


def register_all(root: str | None = None) -> None:
    """Register every dataset of this package; may be called again.

    Args:
        root: folder of the datasets; None for that of the variable DETECTRON2_DATASETS.
    """
    _register_images(root or _root())
    register_ytvis(root or _root())


def register_video_datasets() -> None:
    """Register the datasets of videos, where nobody has their names; may be called again."""
    register_ytvis(_root())


def _register_images(root: str) -> None:
    for register in _IMAGES:
        register(root)


def _root() -> str:
    return os.environ.get("DETECTRON2_DATASETS", "datasets")


_register_images(_root())
register_ytvis(_root(), lazily=True)
keys.called_for_video.append(register_video_datasets)
