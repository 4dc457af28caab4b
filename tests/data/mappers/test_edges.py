"""The image mapper: images without objects, grey and real photos, and errors that name files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from mask2former.data.augmentation import lsj
from mask2former.data.loaders import build_mapper
from tests.data.mappers.conftest import H, W, make_mapper, without

# Edges


@pytest.mark.parametrize("target", ["semantic", "panoptic", "instance"])
def test_an_image_without_objects_has_empty_instances(record, target: str) -> None:
    Image.fromarray(np.full((H, W), 255, np.uint8)).save(record["sem_seg_file_name"])
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(record["pan_seg_file_name"])
    record["segments_info"], record["annotations"] = [], []
    if target == "semantic":
        del record["annotations"]
    mapper = make_mapper(target, pad_to=(64, 64), extras=["boxes", "ignore"], drop="outside")
    instances = mapper(record)["instances"]
    assert len(instances) == 0
    assert instances.gt_masks.shape == (0, 64, 64) and instances.gt_masks.dtype == torch.bool
    assert instances.gt_classes.dtype == torch.int64
    assert instances.gt_boxes.tensor.shape == (0, 4)


def test_grey_photos_train(record) -> None:
    Image.open(record["file_name"]).convert("L").save(record["file_name"])
    assert make_mapper("instance")(record)["image"].shape[0] == 3


def test_real_photos_train(shared: Path) -> None:
    from detectron2.data.datasets import load_coco_json

    folder = shared / "data/coco28"
    records = load_coco_json(str(folder / "instances.json"), str(folder / "images"))
    mapper = make_mapper("instance", lsj(128, 0.5, 1.0), pad_to=(128, 128))
    for record in records[:6]:
        objects = sum(not annotation["iscrowd"] for annotation in record["annotations"])
        instances = mapper(record)["instances"]
        assert len(instances) == objects


# Errors


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("semantic", "sem_seg_file_name"),
        ("panoptic", "pan_seg_file_name"),
        ("panoptic", "segments_info"),
        ("instance", "annotations"),
    ],
)
def test_records_of_another_kind_are_refused(record, target: str, key: str) -> None:
    record = without(record, "annotations" if target != "instance" else "", key)
    with pytest.raises(ValueError, match=rf"a\.png: targets of kind {target} need '{key}'"):
        make_mapper(target)(record)


def test_semantic_targets_refuse_annotations_that_they_would_pass_over(record) -> None:
    with pytest.raises(ValueError, match=r"a\.png: the record has 'annotations', which targets"):
        make_mapper("semantic")(record)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("semantic", r".*: has the labels 2, which are no class from 0 to 1 and not the label 255"),
        ("panoptic", "segment 70000 has class 2; .*NUM_CLASSES 2 allows 0 to 1"),
        ("instance", "annotation 2 has class 2; .*NUM_CLASSES 2 allows 0 to 1"),
    ],
)
def test_classes_that_the_model_lacks_are_named(record, target: str, message: str) -> None:
    if target == "semantic":
        del record["annotations"]
    with pytest.raises(ValueError, match=rf"a\.png: {message}"):
        make_mapper(target, [], num_classes=2)(record)


@pytest.mark.parametrize(
    ("target", "key"), [("semantic", "sem_seg_file_name"), ("panoptic", "pan_seg_file_name")]
)
def test_maps_of_another_size_are_named(record, target: str, key: str) -> None:
    Image.open(record[key]).resize((W + 1, H)).save(record[key])
    with pytest.raises(ValueError, match=rf"a\.png: .*{Path(record[key]).name}: expected 60x40"):
        make_mapper(target)(without(record, "annotations"))


def test_an_image_of_another_size_is_named(record) -> None:
    record["width"] = 61
    with pytest.raises(ValueError, match=r"a\.png: expected 61x40 pixels"):
        make_mapper("instance")(record)


def test_panoptic_maps_that_disagree_with_their_list_are_named(record) -> None:
    record["segments_info"][0]["id"] = 70001
    with pytest.raises(ValueError, match=r"pan\.png: segment 70000: the segment has \d+ pixels"):
        make_mapper("panoptic")(without(record, "annotations"))


def test_masks_that_cannot_be_read_name_file_and_annotation(record) -> None:
    record["annotations"][3]["segmentation"] = {"size": [3, 3], "counts": [9]}
    with pytest.raises(ValueError, match=r"a\.png: annotation 4: RLE size: expected"):
        make_mapper("instance")(record)


def test_unknown_target_and_mapper_are_named(cfg: CfgNode) -> None:
    with pytest.raises(ValueError, match="target: expected one of semantic, panoptic, instance"):
        make_mapper("boxes")
    cfg.INPUT.DATASET_MAPPER_NAME = "coco_lsj"
    with pytest.raises(ValueError, match=r"expected one of mask_former_semantic, .*got 'coco_lsj'"):
        build_mapper(cfg)
