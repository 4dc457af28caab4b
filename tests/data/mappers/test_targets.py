"""The image mapper: keys and values of each kind of target, and options.

The references in this file follow the published steps one mask at a time, with detectron2's
transforms; only colours may differ, by the rounding of the resize kernels.
"""
# ruff: noqa: NPY002 (detectron2 draws from NumPy's global generator)

import copy
import json
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from mask2former.data.augmentation import lsj
from mask2former.data.loaders import build_mapper
from mask2former.data.mappers import MAPPERS
from tests.data.mappers.conftest import CHAIN, H, W, make_mapper, without


def _transformed(record: dict[str, Any], chain, seed: int):
    """The image (H, W, 3) of a record and its transforms by detectron2, with that seed."""
    np.random.seed(seed)
    aug_input = T.AugInput(np.asarray(Image.open(record["file_name"])))
    return aug_input, T.AugmentationList(chain)(aug_input)


def _padded(array: np.ndarray, size: tuple[int, int], fill: int) -> np.ndarray:
    result = np.full((*size, *array.shape[2:]), fill, array.dtype)
    result[: array.shape[0], : array.shape[1]] = array
    return result


# Against the published steps, one mask at a time


@pytest.mark.parametrize("seed", range(6))
def test_semantic(record, seed: int) -> None:
    aug_input, transforms = _transformed(record, CHAIN, seed)
    labels = np.asarray(Image.open(record["sem_seg_file_name"])).astype(np.float64)
    labels = _padded(transforms.apply_segmentation(labels), (48, 70), 255).astype(int)
    np.random.seed(seed)
    result = make_mapper("semantic", pad_to=(48, 70))(without(record, "annotations"))

    image = _padded(aug_input.image, (48, 70), 128).transpose(2, 0, 1)
    assert result["image"].dtype == torch.uint8
    assert np.abs(result["image"].numpy().astype(int) - image).max() <= 1
    assert result["sem_seg"].dtype == torch.int64
    np.testing.assert_array_equal(result["sem_seg"], labels)
    classes = [c for c in np.unique(labels) if c != 255]
    assert result["instances"].gt_classes.tolist() == classes
    assert result["instances"].image_size == (48, 70)
    np.testing.assert_array_equal(
        result["instances"].gt_masks, np.stack([labels == c for c in classes])
    )


@pytest.mark.parametrize("seed", range(6))
def test_panoptic(record, seed: int) -> None:
    _, transforms = _transformed(record, CHAIN, seed)
    rgb = transforms.apply_segmentation(np.asarray(Image.open(record["pan_seg_file_name"])))
    ids = _padded(rgb.astype(int) @ [1, 256, 65536], (48, 70), 0)
    np.random.seed(seed)
    result = make_mapper("panoptic", pad_to=(48, 70), extras=["sem_seg"])(record)

    instances = result["instances"]
    assert instances.gt_classes.tolist() == [2, 0]
    assert instances.gt_classes.dtype == torch.int64 and instances.gt_masks.dtype == torch.bool
    np.testing.assert_array_equal(instances.gt_masks, np.stack([ids == 70000, ids == 900]))
    assert result["sem_seg"].shape == (48, 70)


def test_grey_panoptic_maps_hold_the_ids_themselves(record) -> None:
    ids = np.zeros((H, W), np.uint16)
    ids[:20], ids[20:30], ids[30:] = 700, 900, 7
    Image.fromarray(ids).save(record["pan_seg_file_name"])
    for segment, i in zip(record["segments_info"], (700, 7, 900)):
        segment["id"] = i
    instances = make_mapper("panoptic", [])(without(record, "annotations"))["instances"]
    assert instances.gt_classes.tolist() == [2, 0]
    np.testing.assert_array_equal(instances.gt_masks, np.stack([ids == 700, ids == 900]))


@pytest.mark.parametrize("seed", range(6))
def test_instance(record, seed: int) -> None:
    chain = lsj(64, 0.5, 2.0)
    aug_input, transforms = _transformed(record, chain, seed)
    size = aug_input.image.shape[:2]
    expected = []
    for annotation in record["annotations"]:
        if annotation.get("iscrowd"):
            continue
        form = annotation["segmentation"]
        if isinstance(form, list):
            points = transforms.apply_coords(np.array(form[0]).reshape(-1, 2)).reshape(-1)
            mask = mask_util.decode(mask_util.frPyObjects([points], *size))[:, :, 0]
        else:
            mask = form if isinstance(form, np.ndarray) else mask_util.decode(form)
            mask = transforms.apply_segmentation(mask)
        expected.append(_padded(mask, (64, 64), 0))
    np.random.seed(seed)
    result = make_mapper("instance", chain, pad_to=(64, 64))(record)
    np.testing.assert_array_equal(result["instances"].gt_masks, np.stack(expected))
    assert result["instances"].gt_classes.tolist() == [1, 2, 0]


# Keys

COMMON = {"file_name", "image_id", "height", "width", "image", "instances"}
KEPT = {"sem_seg_file_name", "pan_seg_file_name", "segments_info"}
KEYS = {  # of the result, and fields of the instances, for a record with every kind of annotation
    "mask_former_semantic": (KEPT - {"sem_seg_file_name"} | {"sem_seg"}, set()),
    "mask_former_panoptic": ({"segments_info", "sem_seg"}, set()),
    "mask_former_instance": (KEPT, set()),
    "coco_panoptic_lsj": (KEPT - {"pan_seg_file_name"}, {"gt_boxes"}),
    "coco_instance_lsj": (KEPT | {"padding_mask"}, {"gt_boxes"}),
}


@pytest.mark.parametrize("name", MAPPERS)
def test_published_keys(cfg: CfgNode, record, name: str) -> None:
    cfg.INPUT.DATASET_MAPPER_NAME = name
    if name == "mask_former_semantic":
        del record["annotations"]
    before = copy.deepcopy(record)
    result = build_mapper(cfg)(record)
    keys, fields = KEYS[name]
    assert result.keys() == COMMON | keys
    assert set(result["instances"].get_fields()) == {"gt_classes", "gt_masks"} | fields
    side = 64 if "lsj" in name else 128
    assert result["image"].shape == (3, side, side)
    assert result["instances"].gt_masks.shape[1:] == (side, side)
    assert json.dumps(record, default=str) == json.dumps(before, default=str)  # untouched


def test_size_of_the_file_is_filled_in(record) -> None:
    result = make_mapper("instance")(without(record, "height", "width"))
    assert (result["height"], result["width"]) == (H, W)


def test_inference_gives_the_resized_image_without_targets(cfg: CfgNode, record) -> None:
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 80, 100
    result = build_mapper(cfg, is_train=False)(record)
    assert result["image"].shape == (3, 67, 100)
    assert (result["height"], result["width"]) == (H, W)
    assert not {"instances", "annotations"} & result.keys()


def test_padding_mask_is_true_on_the_padding(record) -> None:
    mapper = make_mapper("instance", [T.Resize((20, 30))], pad_to=(32, 40), extras=["padding_mask"])
    expected = np.ones((32, 40), bool)
    expected[:20, :30] = False
    np.testing.assert_array_equal(mapper(record)["padding_mask"], expected)


def test_padding_by_an_augmentation_counts_as_padding_too(record) -> None:
    chain = [T.Resize((20, 30)), T.FixedSizeCrop((32, 40))]
    padded = make_mapper("instance", chain, extras=["padding_mask"])(record)["padding_mask"]
    assert padded.sum() == 32 * 40 - 20 * 30 and not padded[:20, :30].any()


def test_larger_images_are_not_cropped_by_the_padding(record) -> None:
    assert make_mapper("instance", [], pad_to=(32, 70))(record)["image"].shape == (3, H, 70)


# Options


def test_ignore_of_semantic_targets_is_void_and_padding(record) -> None:
    mapper = make_mapper("semantic", [], pad_to=(H + 2, W), extras=["ignore"])
    result = mapper(without(record, "annotations"))
    assert result["ignore"].dtype == torch.bool
    assert torch.equal(result["ignore"], result["sem_seg"] == 255)


def test_ignore_of_panoptic_targets_is_void_crowd_and_padding(record) -> None:
    result = make_mapper("panoptic", [], pad_to=(H + 2, W), extras=["ignore"])(record)
    ids = np.asarray(Image.open(record["pan_seg_file_name"])).astype(int) @ [1, 256, 65536]
    np.testing.assert_array_equal(result["ignore"][:H], (ids == 0) | (ids == 7))
    assert result["ignore"][H:].all()


def test_ignore_of_instance_targets_is_crowd_that_no_target_covers_and_padding(record) -> None:
    result = make_mapper("instance", [], pad_to=(H + 2, W), extras=["ignore"])(record)
    crowd = mask_util.decode(record["annotations"][2]["segmentation"]) > 0
    covered = result["instances"].gt_masks.any(dim=0)[:H].numpy()
    assert (crowd & covered).any()  # else nothing is tested
    np.testing.assert_array_equal(result["ignore"][:H], crowd & ~covered)
    assert result["ignore"][H:].all()


def test_ignore_void_asks_for_the_map(cfg: CfgNode, record) -> None:
    cfg.INPUT.DATASET_MAPPER_NAME = "coco_instance_lsj"
    assert "ignore" not in build_mapper(cfg)(record)
    cfg.MODEL.MASK_FORMER.IGNORE_VOID = True
    assert build_mapper(cfg)(record)["ignore"].shape == (64, 64)


TINY = {"category_id": 0, "segmentation": [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]]}  # no pixel
OUTSIDE = {"category_id": 1, "segmentation": [[50.0, 30.0, 55.0, 30.0, 55.0, 35.0]]}  # of the crop
SEEN = {"category_id": 2, "segmentation": [[5.0, 5.0, 9.0, 5.0, 9.0, 9.0, 5.0, 9.0]]}


@pytest.mark.parametrize(
    ("drop", "classes"), [("none", [0, 1, 2]), ("outside", [0, 2]), ("empty", [2])]
)
def test_emptied_targets_are_dropped_as_asked(record, drop: str, classes: list[int]) -> None:
    record["annotations"] = [TINY, OUTSIDE, SEEN]
    instances = make_mapper("instance", [T.CropTransform(0, 0, 20, 20)], drop=drop)(record)[
        "instances"
    ]
    assert instances.gt_classes.tolist() == classes
    assert len(instances.gt_masks) == len(classes)


@pytest.mark.parametrize(
    ("name", "drop"),
    [("coco_instance_lsj", "outside"), ("mask_former_instance", "none")],
)
def test_drop_empty_targets(cfg: CfgNode, name: str, drop: str) -> None:
    cfg.INPUT.DATASET_MAPPER_NAME = name
    assert build_mapper(cfg).drop == drop  # as published
    cfg.INPUT.DROP_EMPTY_TARGETS = True
    assert build_mapper(cfg).drop == "empty"


def test_ignore_label_is_that_of_the_training_set(cfg: CfgNode) -> None:
    assert build_mapper(cfg).ignore_label == 255
    MetadataCatalog.get("labels_of_16_bits").ignore_label = 65535
    cfg.DATASETS.TRAIN = ("labels_of_16_bits",)
    assert build_mapper(cfg).ignore_label == 65535
    MetadataCatalog.remove("labels_of_16_bits")


def test_label_maps_may_have_other_numbers_than_the_classes(cfg: CfgNode, record) -> None:
    MetadataCatalog.get("odd_labels").set(ignore_label=0, sem_seg_labels=[2, 1])
    cfg.DATASETS.TRAIN, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = ("odd_labels",), 2
    mapper = build_mapper(cfg)
    MetadataCatalog.remove("odd_labels")
    mapper.augmentations = []
    sem_seg = mapper(without(record, "annotations"))["sem_seg"][:H, :W].numpy()
    labels = np.asarray(Image.open(record["sem_seg_file_name"]))
    expected = np.where(labels == 2, 0, np.where(labels == 1, 1, 255))
    np.testing.assert_array_equal(sem_seg, expected)
