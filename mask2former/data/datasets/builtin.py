"""The published datasets of images, and the shapes: their names, files and class tables.

detectron2 registers COCO's other forms, Cityscapes and ade20k_sem_seg.
"""

import os

from detectron2.data import MetadataCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from ..categories import load_categories
from . import catalog, common
from .instances import register_instances
from .panoptic import panoptic_metadata, register_panoptic
from .semantic import register_semantic


def register_ade20k(root: str) -> None:
    """Register ade20k_{panoptic,instance}_{train,val} in ``root``/ADEChallengeData2016.

    These are the 150 classes of the challenge. detectron2's own ade20k_sem_seg_{train,val} get
    their colours.
    """
    folder = os.path.join(root, "ADEChallengeData2016")
    categories = load_categories("ade20k")
    # The instance files spell the names of their classes differently.
    things = [{**c, "name": c["instance_name"]} for c in categories if c["isthing"]]
    metadata = panoptic_metadata(categories)
    for split, long_split in common.LONG_SPLITS.items():
        image_root = f"{folder}/images/{long_split}"
        instances_json = f"{folder}/ade20k_instance_{split}.json"
        catalog.amend(f"ade20k_sem_seg_{split}", {"stuff_colors": metadata["stuff_colors"]})
        register_instances(
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
            panoptic_root=f"{folder}/ade20k_panoptic_{split}",
            panoptic_json=f"{folder}/ade20k_panoptic_{split}.json",
            sem_seg_root=f"{folder}/annotations_detectron2/{long_split}",
            instances_json=instances_json,
            evaluator_type="ade20k_panoptic_seg",
            hint=f"{common.hint('ade20k_pan_seg')}, after prepare_ade20k_sem_seg.py",
        )


def register_ade20k_full(root: str) -> None:
    """Register ade20k_full_sem_seg_{train,val}, of 847 classes, in ``root``/ADE20K_2021_17_01."""
    folder = os.path.join(root, "ADE20K_2021_17_01")
    names = [c["name"] for c in load_categories("ade20k_full")]
    for split, long_split in common.LONG_SPLITS.items():
        register_semantic(
            f"ade20k_full_sem_seg_{split}",
            image_root=f"{folder}/images_detectron2/{long_split}",
            sem_seg_root=f"{folder}/annotations_detectron2/{long_split}",
            ignore_label=65535,  # 16-bit label maps
            hint=common.hint("ade20k_full_sem_seg"),
            stuff_classes=names,
        )


def register_coco_panoptic(root: str) -> None:
    """Register coco_2017_{train,val}_panoptic_with_sem_seg in ``root``/coco.

    In the metadata of detectron2's coco_2017_{train,val}_panoptic, ``thing_*`` is made to cover the
    80 things, where detectron2 lists all 133 classes.
    """
    folder = os.path.join(root, "coco")
    metadata = panoptic_metadata(COCO_CATEGORIES)
    narrow = {key: metadata[key] for key in ("thing_classes", "thing_colors")}
    for split in ("train", "val"):
        name = f"coco_2017_{split}_panoptic"
        known = vars(MetadataCatalog.get(name))
        if known.get("thing_classes") == metadata["stuff_classes"]:  # as detectron2 has it
            for key in narrow:
                known.pop(key, None)
        catalog.amend(name, narrow)
        register_panoptic(
            f"{name}_with_sem_seg",
            metadata,
            image_root=f"{folder}/{split}2017",
            panoptic_root=f"{folder}/panoptic_{split}2017",
            panoptic_json=f"{folder}/annotations/panoptic_{split}2017.json",
            sem_seg_root=f"{folder}/panoptic_semseg_{split}2017",
            instances_json=f"{folder}/annotations/instances_{split}2017.json",
            evaluator_type="coco_panoptic_seg",
            hint=common.hint("coco_semantic_annos_from_panoptic_annos"),
        )


def register_coco_stuff_10k(root: str) -> None:
    """Register coco_2017_{train,test}_stuff_10k_sem_seg in ``root``/coco/coco_stuff_10k."""
    folder = os.path.join(root, "coco", "coco_stuff_10k")
    categories = load_categories("coco_stuff_10k")
    for split in ("train", "test"):
        register_semantic(
            f"coco_2017_{split}_stuff_10k_sem_seg",
            image_root=f"{folder}/images_detectron2/{split}",
            sem_seg_root=f"{folder}/annotations_detectron2/{split}",
            hint=common.hint("coco_stuff_10k"),
            stuff_classes=[c["name"] for c in categories],
            stuff_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
        )


def register_mapillary_vistas(root: str) -> None:
    """Register mapillary_vistas_{sem_seg,panoptic,instance}_{train,val}.

    Of its 65 classes 37 are things; the 66th, "Unlabeled", is ignored. The folder is
    ``root``/mapillary_vistas. The json files of the instances are made by
    datasets/prepare_mapillary_vistas_ins_seg.py.
    """
    categories = load_categories("mapillary_vistas")
    things = [c for c in categories if c["isthing"]]
    metadata = panoptic_metadata(categories)
    # As published: thing_classes lists all classes, so that contiguous ids index it.
    stuff = {key: metadata[key] for key in ("stuff_classes", "stuff_colors")}
    metadata["thing_classes"], metadata["thing_colors"] = stuff.values()
    for split, long_split in common.LONG_SPLITS.items():
        folder = os.path.join(root, "mapillary_vistas", long_split)
        image_root = f"{folder}/images"
        sem_seg = {
            "sem_seg_root": f"{folder}/labels",
            "ignore_label": 65,
            "hint": "Unpack Mapillary Vistas 1.2 there, see datasets/README.md",
        }
        register_semantic(
            f"mapillary_vistas_sem_seg_{split}", image_root=image_root, **sem_seg, **stuff
        )
        register_instances(
            f"mapillary_vistas_instance_{split}",
            things,
            image_root=image_root,
            json_file=f"{folder}/instances_{split}.json",
            hint=common.hint("mapillary_vistas_ins_seg"),
            thing_colors=[c["color"] for c in things],
        )
        register_panoptic(
            f"mapillary_vistas_panoptic_{split}",
            metadata,
            image_root=image_root,
            panoptic_root=f"{folder}/panoptic",
            panoptic_json=f"{folder}/panoptic/panoptic_2018.json",
            evaluator_type="mapillary_vistas_panoptic_seg",
            **sem_seg,
        )


def register_shapes(root: str) -> None:
    """Register shapes_{train,val}_{instance,panoptic,sem_seg} in the folder ``root``/shapes.

    datasets/prepare_shapes.py draws them, of 6 classes of things and 4 of stuff.
    """
    folder = os.path.join(root, "shapes")
    categories = load_categories("shapes")
    metadata = panoptic_metadata(categories)
    for split in ("train", "val"):
        sem_seg_root = f"{folder}/sem_seg_{split}"
        instances_json = f"{folder}/annotations/instances_{split}.json"
        shared = {
            "image_root": f"{folder}/images/{split}",
            "hint": f"Make it with: python datasets/prepare_shapes.py --output {root}",
        }
        register_instances(
            f"shapes_{split}_instance",
            [c for c in categories if c["isthing"]],
            json_file=instances_json,
            thing_colors=metadata["thing_colors"],
            **shared,
        )
        register_panoptic(
            f"shapes_{split}_panoptic",
            metadata,
            panoptic_root=f"{folder}/panoptic_{split}",
            panoptic_json=f"{folder}/annotations/panoptic_{split}.json",
            sem_seg_root=sem_seg_root,
            instances_json=instances_json,
            evaluator_type="coco_panoptic_seg",
            **shared,
        )
        register_semantic(
            f"shapes_{split}_sem_seg",
            sem_seg_root=sem_seg_root,
            stuff_classes=metadata["stuff_classes"],
            stuff_colors=metadata["stuff_colors"],
            **shared,
        )
