"""The datasets that are known by name; importing this registers them and reads no data.

They are looked for under the folder that the variable DETECTRON2_DATASETS names, "datasets" by
default. A name that is registered already is left as it is.
"""

import os

from .builtin import (
    register_ade20k,
    register_ade20k_full,
    register_coco_panoptic,
    register_coco_stuff_10k,
    register_mapillary_vistas,
    register_shapes,
)
from .ytvis import register_ytvis

__all__ = ["register_all"]

_FAMILIES = (
    register_ade20k,
    register_ade20k_full,
    register_coco_panoptic,
    register_coco_stuff_10k,
    register_mapillary_vistas,
    register_shapes,
    register_ytvis,
)


def register_all(root: str | None = None) -> None:
    """Register every dataset of this package; may be called again.

    Args:
        root: folder of the datasets; None for that of the variable DETECTRON2_DATASETS.
    """
    root = root or os.environ.get("DETECTRON2_DATASETS", "datasets")
    for register in _FAMILIES:
        register(root)


register_all()
