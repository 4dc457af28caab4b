"""ADE20K: the 150 classes of the challenge (panoptic, instance, semantic), and all 847 classes."""

import os

from ..categories import load_categories
from . import common
from .panoptic import panoptic_metadata, register_panoptic


def register_ade20k(root: str) -> None:
    """Register ade20k_{panoptic,instance}_{train,val} in ``root``/ADEChallengeData2016.

    detectron2's own ade20k_sem_seg_{train,val} get the colours of the classes.
    """
    folder = os.path.join(root, "ADEChallengeData2016")
    categories = load_categories("ade20k")
    # The instance files spell the names of their classes differently.
    things = [{**c, "name": c["instance_name"]} for c in categories if c["isthing"]]
    metadata = panoptic_metadata(categories)
    for split, long_split in common.LONG_SPLITS.items():
        image_root = os.path.join(folder, "images", long_split)
        instances_json = os.path.join(folder, f"ade20k_instance_{split}.json")
        common.fill_metadata(f"ade20k_sem_seg_{split}", stuff_colors=metadata["stuff_colors"])
        common.instances(
            f"ade20k_instance_{split}",
            things,
            image_root=image_root,
            json_file=instances_json,
            hint=common.hint("ade20k_ins_seg"),
        )
        register_panoptic(
            f"ade20k_panoptic_{split}",
            metadata,
            image_root=image_root,
            panoptic_root=os.path.join(folder, f"ade20k_panoptic_{split}"),
            panoptic_json=os.path.join(folder, f"ade20k_panoptic_{split}.json"),
            sem_seg_root=os.path.join(folder, "annotations_detectron2", long_split),
            instances_json=instances_json,
            evaluator_type="ade20k_panoptic_seg",
            hint=f"{common.hint('ade20k_pan_seg')}, after prepare_ade20k_sem_seg.py",
        )


def register_ade20k_full(root: str) -> None:
    """Register ade20k_full_sem_seg_{train,val} in ``root``/ADE20K_2021_17_01."""
    folder = os.path.join(root, "ADE20K_2021_17_01")
    names = [c["name"] for c in load_categories("ade20k_full")]
    for split, long_split in common.LONG_SPLITS.items():
        common.semantic(
            f"ade20k_full_sem_seg_{split}",
            image_root=os.path.join(folder, "images_detectron2", long_split),
            sem_seg_root=os.path.join(folder, "annotations_detectron2", long_split),
            gt_ext="tif",
            ignore_label=65535,  # 16-bit label maps
            hint=common.hint("ade20k_full_sem_seg"),
            stuff_classes=names,
        )
