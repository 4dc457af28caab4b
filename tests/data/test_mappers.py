"""The image mapper: keys and values of each kind of target, options, and errors that name files.

The references in this file follow the published steps one mask at a time, with detectron2's
transforms; only colours may differ, by the rounding of the resize kernels.
"""
# ruff: noqa: NPY002 (detectron2 draws from NumPy's global generator)

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.projects.deeplab import add_deeplab_config
from PIL import Image

from mask2former import add_maskformer2_config
from mask2former.data.augmentation import lsj, shortest_edge
from mask2former.data.loaders import build_mapper
from mask2former.data.mappers import MAPPERS, DatasetMapper

H, W = 40, 60
CHAIN = shortest_edge((30, 45, 66), 90, crop=T.RandomCrop("absolute", (36, 44)))


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """An image with annotations of every kind, some of them crowd, for 3 classes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:H, :W]
    Image.fromarray(np.stack([x * 4, y * 6, x + y], 2).astype(np.uint8)).save(tmp_path / "a.png")
    blocks = rng.integers(0, 4, (H // 5, W // 5)).repeat(5, 0).repeat(5, 1)
    Image.fromarray(np.array([0, 1, 2, 255], np.uint8)[blocks]).save(tmp_path / "sem.png")
    ids = np.array([0, 7, 900, 70000])[rng.integers(0, 4, (H // 5, W // 5))]
    ids = ids.repeat(5, 0).repeat(5, 1)
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "pan.png")
    disc = (y - 20) ** 2 + (x - 30) ** 2 < 150
    return {
        "file_name": str(tmp_path / "a.png"),
        "image_id": 42,
        "height": H,
        "width": W,
        "sem_seg_file_name": str(tmp_path / "sem.png"),
        "pan_seg_file_name": str(tmp_path / "pan.png"),
        "segments_info": [
            {"id": 70000, "category_id": 2},
            {"id": 7, "category_id": 1, "iscrowd": 1},
            {"id": 900, "category_id": 0, "iscrowd": 0},
        ],
        "annotations": [
            {"id": 1, "category_id": 1, "segmentation": [[5.0, 6.0, 30.0, 8.0, 20.0, 35.0]]},
            {"id": 2, "category_id": 2, "segmentation": disc.astype(np.uint8), "iscrowd": 0},
            {"id": 3, "category_id": 0, "segmentation": _rle(disc[:, ::-1]), "iscrowd": 1},
            {"id": 4, "category_id": 0, "segmentation": _rle(x > 50)},
        ],
    }


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.SIZE_DIVISIBILITY = 64, (50,), 128
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    return cfg


def _rle(mask: np.ndarray) -> dict[str, Any]:
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def _without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def _mapper(target: str, chain=CHAIN, **settings) -> DatasetMapper:
    return DatasetMapper(True, target=target, augmentations=chain, image_format="RGB", **settings)


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
    result = _mapper("semantic", pad_to=(48, 70))(_without(record, "annotations"))

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
    result = _mapper("panoptic", pad_to=(48, 70), extras=["sem_seg"])(record)

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
    instances = _mapper("panoptic", [])(_without(record, "annotations"))["instances"]
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
    result = _mapper("instance", chain, pad_to=(64, 64))(record)
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
    result = _mapper("instance")(_without(record, "height", "width"))
    assert (result["height"], result["width"]) == (H, W)


def test_inference_gives_the_resized_image_without_targets(cfg: CfgNode, record) -> None:
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 80, 100
    result = build_mapper(cfg, is_train=False)(record)
    assert result["image"].shape == (3, 67, 100)
    assert (result["height"], result["width"]) == (H, W)
    assert not {"instances", "annotations"} & result.keys()


def test_padding_mask_is_true_on_the_padding(record) -> None:
    mapper = _mapper("instance", [T.Resize((20, 30))], pad_to=(32, 40), extras=["padding_mask"])
    expected = np.ones((32, 40), bool)
    expected[:20, :30] = False
    np.testing.assert_array_equal(mapper(record)["padding_mask"], expected)


def test_padding_by_an_augmentation_counts_as_padding_too(record) -> None:
    chain = [T.Resize((20, 30)), T.FixedSizeCrop((32, 40))]
    padded = _mapper("instance", chain, extras=["padding_mask"])(record)["padding_mask"]
    assert padded.sum() == 32 * 40 - 20 * 30 and not padded[:20, :30].any()


def test_larger_images_are_not_cropped_by_the_padding(record) -> None:
    assert _mapper("instance", [], pad_to=(32, 70))(record)["image"].shape == (3, H, 70)


# Options


def test_ignore_of_semantic_targets_is_void_and_padding(record) -> None:
    mapper = _mapper("semantic", [], pad_to=(H + 2, W), extras=["ignore"])
    result = mapper(_without(record, "annotations"))
    assert result["ignore"].dtype == torch.bool
    assert torch.equal(result["ignore"], result["sem_seg"] == 255)


def test_ignore_of_panoptic_targets_is_void_crowd_and_padding(record) -> None:
    result = _mapper("panoptic", [], pad_to=(H + 2, W), extras=["ignore"])(record)
    ids = np.asarray(Image.open(record["pan_seg_file_name"])).astype(int) @ [1, 256, 65536]
    np.testing.assert_array_equal(result["ignore"][:H], (ids == 0) | (ids == 7))
    assert result["ignore"][H:].all()


def test_ignore_of_instance_targets_is_crowd_that_no_target_covers_and_padding(record) -> None:
    result = _mapper("instance", [], pad_to=(H + 2, W), extras=["ignore"])(record)
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
    instances = _mapper("instance", [T.CropTransform(0, 0, 20, 20)], drop=drop)(record)["instances"]
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
    sem_seg = mapper(_without(record, "annotations"))["sem_seg"][:H, :W].numpy()
    labels = np.asarray(Image.open(record["sem_seg_file_name"]))
    expected = np.where(labels == 2, 0, np.where(labels == 1, 1, 255))
    np.testing.assert_array_equal(sem_seg, expected)


# Edges


@pytest.mark.parametrize("target", ["semantic", "panoptic", "instance"])
def test_an_image_without_objects_has_empty_instances(record, target: str) -> None:
    Image.fromarray(np.full((H, W), 255, np.uint8)).save(record["sem_seg_file_name"])
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(record["pan_seg_file_name"])
    record["segments_info"], record["annotations"] = [], []
    if target == "semantic":
        del record["annotations"]
    mapper = _mapper(target, pad_to=(64, 64), extras=["boxes", "ignore"], drop="outside")
    instances = mapper(record)["instances"]
    assert len(instances) == 0
    assert instances.gt_masks.shape == (0, 64, 64) and instances.gt_masks.dtype == torch.bool
    assert instances.gt_classes.dtype == torch.int64
    assert instances.gt_boxes.tensor.shape == (0, 4)


def test_grey_photos_train(record) -> None:
    Image.open(record["file_name"]).convert("L").save(record["file_name"])
    assert _mapper("instance")(record)["image"].shape[0] == 3


def test_real_photos_train(shared: Path) -> None:
    from detectron2.data.datasets import load_coco_json

    folder = shared / "data/coco28"
    records = load_coco_json(str(folder / "instances.json"), str(folder / "images"))
    mapper = _mapper("instance", lsj(128, 0.5, 1.0), pad_to=(128, 128))
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
    record = _without(record, "annotations" if target != "instance" else "", key)
    with pytest.raises(ValueError, match=rf"a\.png: targets of kind {target} need '{key}'"):
        _mapper(target)(record)


def test_semantic_targets_refuse_annotations_that_they_would_pass_over(record) -> None:
    with pytest.raises(ValueError, match=r"a\.png: the record has 'annotations', which targets"):
        _mapper("semantic")(record)


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
        _mapper(target, [], num_classes=2)(record)


@pytest.mark.parametrize(
    ("target", "key"), [("semantic", "sem_seg_file_name"), ("panoptic", "pan_seg_file_name")]
)
def test_maps_of_another_size_are_named(record, target: str, key: str) -> None:
    Image.open(record[key]).resize((W + 1, H)).save(record[key])
    with pytest.raises(ValueError, match=rf"a\.png: .*{Path(record[key]).name}: expected 60x40"):
        _mapper(target)(_without(record, "annotations"))


def test_an_image_of_another_size_is_named(record) -> None:
    record["width"] = 61
    with pytest.raises(ValueError, match=r"a\.png: expected 61x40 pixels"):
        _mapper("instance")(record)


def test_panoptic_maps_that_disagree_with_their_list_are_named(record) -> None:
    record["segments_info"][0]["id"] = 70001
    with pytest.raises(ValueError, match=r"pan\.png: segment 70000: the segment has \d+ pixels"):
        _mapper("panoptic")(_without(record, "annotations"))


def test_masks_that_cannot_be_read_name_file_and_annotation(record) -> None:
    record["annotations"][3]["segmentation"] = {"size": [3, 3], "counts": [9]}
    with pytest.raises(ValueError, match=r"a\.png: annotation 4: RLE size: expected"):
        _mapper("instance")(record)


def test_unknown_target_and_mapper_are_named(cfg: CfgNode) -> None:
    with pytest.raises(ValueError, match="target: expected one of semantic, panoptic, instance"):
        _mapper("boxes")
    cfg.INPUT.DATASET_MAPPER_NAME = "coco_lsj"
    with pytest.raises(ValueError, match=r"expected one of mask_former_semantic, .*got 'coco_lsj'"):
        build_mapper(cfg)
