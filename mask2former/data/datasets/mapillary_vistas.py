"""Mapillary Vistas 1.2: 65 classes, of which 37 are things; the 66th, "Unlabeled", is ignored."""

import os

from ..categories import load_categories
from . import common
from .panoptic import panoptic_metadata, register_panoptic

_IGNORE_LABEL = 65


def register_mapillary_vistas(root: str) -> None:
    """Register mapillary_vistas_{sem_seg,panoptic,instance}_{train,val}.

    The folder is ``root``/mapillary_vistas. The json files of the instances are made by
    datasets/prepare_mapillary_vistas_ins_seg.py.
    """
    categories = load_categories("mapillary_vistas")
    things = [c for c in categories if c["isthing"]]
    metadata = panoptic_metadata(categories)
    # As published: thing_classes lists all classes, so that contiguous ids index it.
    metadata["thing_classes"] = metadata["stuff_classes"]
    metadata["thing_colors"] = metadata["stuff_colors"]
    for split, long_split in common.LONG_SPLITS.items():
        folder = os.path.join(root, "mapillary_vistas", long_split)
        image_root = os.path.join(folder, "images")
        sem_seg_root = os.path.join(folder, "labels")
        panoptic_root = os.path.join(folder, "panoptic")
        hint = "Unpack Mapillary Vistas 1.2 there, see datasets/README.md"
        common.semantic(
            f"mapillary_vistas_sem_seg_{split}",
            image_root=image_root,
            sem_seg_root=sem_seg_root,
            ignore_label=_IGNORE_LABEL,
            hint=hint,
            stuff_classes=metadata["stuff_classes"],
            stuff_colors=metadata["stuff_colors"],
        )
        common.instances(
            f"mapillary_vistas_instance_{split}",
            things,
            image_root=image_root,
            json_file=os.path.join(folder, f"instances_{split}.json"),
            hint=common.hint("mapillary_vistas_ins_seg"),
            thing_colors=[c["color"] for c in things],
        )
        register_panoptic(
            f"mapillary_vistas_panoptic_{split}",
            metadata,
            image_root=image_root,
            panoptic_root=panoptic_root,
            panoptic_json=os.path.join(panoptic_root, "panoptic_2018.json"),
            sem_seg_root=sem_seg_root,
            instances_json=None,
            evaluator_type="mapillary_vistas_panoptic_seg",
            ignore_label=_IGNORE_LABEL,
            hint=hint,
        )
