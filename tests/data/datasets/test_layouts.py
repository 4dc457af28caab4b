"""Fakes of the published layouts go all the way: preparation, a training step, evaluation."""

from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.data.datasets import builtin
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import mask2former.data.datasets as datasets
from mask2former.config import load_config
from mask2former.data import build_test_loader, build_train_loader, register_custom
from mask2former.data.preparation import ade20k, coco
from mask2former.evaluation import build_evaluator
from tests.data import fakes

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "shapes"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", -1, "MODEL.TIMM.PRETRAINED", ""),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1, "MODEL.MASK_FORMER.DEC_LAYERS", 2),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 6, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 20),
    *("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5),
    *("INPUT.IMAGE_SIZE", 64, "INPUT.MIN_SIZE_TRAIN", (32,), "INPUT.MIN_SIZE_TEST", 32),
    *("SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0),
    *("DATALOADER.FILTER_EMPTY_ANNOTATIONS", True),
]
VIDEO = [
    *("MODEL.META_ARCHITECTURE", "VideoMaskFormer"),
    *("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "VideoMultiScaleMaskedTransformerDecoder"),
]

ADE = (ade20k.prepare_semantic, ade20k.prepare_panoptic, ade20k.prepare_instances)
SEMANTIC = ("semantic", "mask_former_semantic", {"sem_seg"})
INSTANCE = ("instance", "mask_former_instance", {"bbox", "segm"})
PANOPTIC = ("panoptic", "mask_former_panoptic", {"panoptic_seg", "bbox", "segm", "sem_seg"})
COCO_INSTANCE = ("instance", "coco_instance_lsj", {"bbox", "segm"})
COCO_PANOPTIC = ("panoptic", "coco_panoptic_lsj", {"panoptic_seg", "bbox", "segm", "sem_seg"})


LAYOUTS = [
    ("ade20k_sem_seg_train", "ade20k_sem_seg_val", fakes.ade20k, ADE[:1], SEMANTIC),
    ("ade20k_panoptic_train", "ade20k_panoptic_val", fakes.ade20k, ADE, PANOPTIC),
    ("ade20k_instance_train", "ade20k_instance_val", fakes.ade20k, ADE[2:], INSTANCE),
    (
        "ade20k_full_sem_seg_train",
        "ade20k_full_sem_seg_val",
        fakes.ade20k_full,
        (ade20k.prepare_full,),
        SEMANTIC,
    ),
    ("coco_2017_train", "coco_2017_val", fakes.coco_panoptic, (), COCO_INSTANCE),
    (
        "coco_2017_train_panoptic_with_sem_seg",
        "coco_2017_val_panoptic_with_sem_seg",
        fakes.coco_panoptic,
        (coco.prepare_semantic,),
        COCO_PANOPTIC,
    ),
    (
        "coco_2017_train_panoptic",
        "coco_2017_val_panoptic_with_sem_seg",
        fakes.coco_panoptic,
        (coco.prepare_semantic,),
        COCO_PANOPTIC,
    ),
    (
        "coco_2017_train_stuff_10k_sem_seg",
        "coco_2017_test_stuff_10k_sem_seg",
        fakes.coco_stuff_10k,
        (coco.prepare_stuff_10k,),
        SEMANTIC,
    ),
    (
        "mapillary_vistas_sem_seg_train",
        "mapillary_vistas_sem_seg_val",
        fakes.mapillary_vistas,
        (),
        SEMANTIC,
    ),
    (
        "mapillary_vistas_panoptic_train",
        "mapillary_vistas_panoptic_val",
        fakes.mapillary_vistas,
        (),
        PANOPTIC,
    ),
    (
        "mapillary_vistas_instance_train",
        "mapillary_vistas_instance_val",
        fakes.mapillary_vistas,
        (coco.prepare_mapillary_instances,),
        COCO_INSTANCE,
    ),
]


@pytest.mark.parametrize(
    ("train", "val", "fake", "preparations", "task"), LAYOUTS, ids=[row[0] for row in LAYOUTS]
)
def test_layout(tmp_path, empty_catalogs, train, val, fake, preparations, task):
    fake(tmp_path)
    splits = ("train", "test" if "_test_" in val else "val")
    for prepare in preparations:
        for split in splits:
            prepare(tmp_path, split)
    builtin.register_all_coco(str(tmp_path))
    builtin.register_all_ade20k(str(tmp_path))
    datasets.register_all(str(tmp_path))
    folder, mapper, expected = task
    options = [*SMALL, "INPUT.DATASET_MAPPER_NAME", mapper]
    assert set(_train_and_evaluate(folder, options, train, val, tmp_path)) == expected


@pytest.mark.parametrize(
    ("kind", "task", "needs"),
    [
        ("panoptic", ("panoptic", "mask_former_panoptic", {"panoptic_seg"}), ()),
        ("sem_seg", SEMANTIC, ("cityscapesscripts.helpers.labels",)),
        (
            "instance_seg",
            ("instance", "mask_former_instance", {"segm"}),
            ("cityscapesscripts.helpers.labels", "shapely"),
        ),
    ],
)
def test_cityscapes(tmp_path, empty_catalogs, kind, task, needs):
    for package in needs:
        pytest.importorskip(package)
    fakes.cityscapes(tmp_path)
    builtin.register_all_cityscapes(str(tmp_path))
    builtin.register_all_cityscapes_panoptic(str(tmp_path))
    folder, mapper, expected = task
    options = [*SMALL, "INPUT.DATASET_MAPPER_NAME", mapper]
    if kind == "panoptic":  # the official scripts score the rest
        for output in ("INSTANCE_ON", "SEMANTIC_ON"):
            options += [f"MODEL.MASK_FORMER.TEST.{output}", False]
    names = (f"cityscapes_fine_{kind}_{split}" for split in ("train", "val"))
    assert set(_train_and_evaluate(folder, options, *names, tmp_path)) == expected


@pytest.mark.parametrize(
    ("name", "fake"),
    [
        ("ytvis_2019", fakes.ytvis),
        ("ytvis_2021", partial(fakes.ytvis, folder="ytvis_2021", classes="ytvis_2021")),
        ("ytvis_2022", partial(fakes.ytvis, folder="ytvis_2022", classes="ytvis_2021")),
        ("ovis", fakes.ovis),
    ],
)
def test_video_layout(tmp_path, empty_catalogs, name, fake):
    fake(tmp_path)
    datasets.register_all(str(tmp_path))
    options = [*SMALL, *VIDEO]
    results = _train_and_evaluate("instance", options, f"{name}_train", f"{name}_val", tmp_path)
    assert set(results) == {"segm"}


def test_own_label_maps_with_labels_of_any_number(tmp_path, empty_catalogs):
    fakes.save_photo(tmp_path / "images" / "1.jpg")
    fakes.save(tmp_path / "labels" / "1.png", fakes.quarters(7, 70, 9, 0))
    entry = {
        "name": "mine",
        "task": "sem_seg",
        "image_root": str(tmp_path / "images"),
        "sem_seg_root": str(tmp_path / "labels"),
        "classes": {7: "road", 70: "car", 9: "sky"},
        "ignore_label": 0,
    }
    options = [*SMALL, "DATASETS.CUSTOM", [entry]]
    results = _train_and_evaluate("semantic", options, "mine", "mine", tmp_path)
    assert {"IoU-road", "IoU-car", "IoU-sky"} <= set(results["sem_seg"])


def test_own_panoptic_data_without_label_maps(shapes_root, tmp_path, empty_catalogs):
    folder = shapes_root / "shapes"
    entry = {
        "name": "mine",
        "task": "panoptic",
        "image_root": str(folder / "images" / "val"),
        "annotations": str(folder / "annotations" / "panoptic_val.json"),
        "panoptic_root": str(folder / "panoptic_val"),
    }
    options = [*SMALL, "DATASETS.CUSTOM", [entry]]
    results = _train_and_evaluate("panoptic", options, "mine", "mine", tmp_path)
    assert set(results) == {"panoptic_seg", "bbox", "segm", "sem_seg"}


def _train_and_evaluate(folder: str, options: list, train: str, val: str, output: Path) -> dict:
    """Takes one training step, and evaluates the model that is left."""
    names = ["DATASETS.TRAIN", (train,), "DATASETS.TEST", (val,), "OUTPUT_DIR", str(output)]
    config = CONFIGS / folder / "maskformer2_lite0.yaml"
    cfg = load_config(config, [*options, *names])
    register_custom(cfg)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    batch = next(iter(build_train_loader(cfg)))
    with EventStorage():
        losses = model(batch)
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    evaluator = build_evaluator(cfg, val, str(output / "inference"))
    return inference_on_dataset(model.eval(), build_test_loader(cfg, val), evaluator)
