"""COCO panoptic with semantic maps, and COCO-Stuff 10k; detectron2 registers COCO's other forms."""

import os

from detectron2.data import MetadataCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from ..categories import load_categories
from . import common
from .panoptic import panoptic_metadata, register_panoptic


def register_coco_panoptic(root: str) -> None:
    """Register coco_2017_{train,val}_panoptic_with_sem_seg in ``root``/coco.

    In the metadata of detectron2's coco_2017_{train,val}_panoptic, ``thing_*`` is made to cover the
    80 things, where detectron2 lists all 133 classes.
    """
    folder = os.path.join(root, "coco")
    metadata = panoptic_metadata(COCO_CATEGORIES)
    for split in ("train", "val"):
        name = f"coco_2017_{split}_panoptic"
        _narrow_to_things(name, metadata)
        register_panoptic(
            f"{name}_with_sem_seg",
            metadata,
            image_root=os.path.join(folder, f"{split}2017"),
            panoptic_root=os.path.join(folder, f"panoptic_{split}2017"),
            panoptic_json=os.path.join(folder, "annotations", f"panoptic_{split}2017.json"),
            sem_seg_root=os.path.join(folder, f"panoptic_semseg_{split}2017"),
            instances_json=os.path.join(folder, "annotations", f"instances_{split}2017.json"),
            evaluator_type="coco_panoptic_seg",
            hint=common.hint("coco_semantic_annos_from_panoptic_annos"),
            image_id=int,
        )


def _narrow_to_things(name: str, metadata: dict) -> None:
    entries = MetadataCatalog.get(name).__dict__  # set() refuses to change a value
    entries.update({key: metadata[key] for key in ("thing_classes", "thing_colors")})


def register_coco_stuff_10k(root: str) -> None:
    """Register coco_2017_{train,test}_stuff_10k_sem_seg in ``root``/coco/coco_stuff_10k."""
    folder = os.path.join(root, "coco", "coco_stuff_10k")
    categories = load_categories("coco_stuff_10k")
    for split in ("train", "test"):
        common.semantic(
            f"coco_2017_{split}_stuff_10k_sem_seg",
            image_root=os.path.join(folder, "images_detectron2", split),
            sem_seg_root=os.path.join(folder, "annotations_detectron2", split),
            hint=common.hint("coco_stuff_10k"),
            stuff_classes=[c["name"] for c in categories],
            stuff_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
        )
