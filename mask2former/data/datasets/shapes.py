"""The shapes dataset, which datasets/prepare_shapes.py draws: 6 classes of things, 4 of stuff."""

import os

from ..categories import load_categories
from . import common
from .panoptic import panoptic_metadata, register_panoptic


def register_shapes(root: str) -> None:
    """Register shapes_{train,val}_{instance,panoptic,sem_seg} in the folder ``root``/shapes."""
    folder = os.path.join(root, "shapes")
    categories = load_categories("shapes")
    things = [c for c in categories if c["isthing"]]
    hint = f"Make it with: python datasets/prepare_shapes.py --output {root}"
    metadata = panoptic_metadata(categories)
    for split in ("train", "val"):
        image_root = os.path.join(folder, "images", split)
        instances_json = os.path.join(folder, "annotations", f"instances_{split}.json")
        sem_seg_root = os.path.join(folder, f"sem_seg_{split}")
        common.instances(
            f"shapes_{split}_instance",
            things,
            image_root=image_root,
            json_file=instances_json,
            hint=hint,
            thing_colors=[c["color"] for c in things],
        )
        register_panoptic(
            f"shapes_{split}_panoptic",
            metadata,
            image_root=image_root,
            panoptic_root=os.path.join(folder, f"panoptic_{split}"),
            panoptic_json=os.path.join(folder, "annotations", f"panoptic_{split}.json"),
            sem_seg_root=sem_seg_root,
            instances_json=instances_json,
            evaluator_type="coco_panoptic_seg",
            hint=hint,
        )
        common.semantic(
            f"shapes_{split}_sem_seg",
            image_root=image_root,
            sem_seg_root=sem_seg_root,
            hint=hint,
            stuff_classes=metadata["stuff_classes"],
            stuff_colors=metadata["stuff_colors"],
        )
