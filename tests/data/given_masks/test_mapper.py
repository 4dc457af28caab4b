"""The mapper of images and masks: keys and values by hand, agreement with the plain mapper."""
# ruff: noqa: NPY002 (the masks are drawn from NumPy's global generator)

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image

from mask2former.annotations.readers.given_masks import RleMasks
from mask2former.config import get_config
from mask2former.data.given_masks.mapper import MaskDatasetMapper
from mask2former.data.given_masks.proposals import ProposalSampler
from mask2former.data.loaders import build_mapper
from mask2former.data.mappers import DatasetMapper

H, W = 40, 60
BOXES = {7: (0, 0, 20, 20), 900: (30, 5, 55, 35)}  # id: x0, y0, x1, y1
CLASSES = {7: 1, 900: 0}


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """An image with two objects, annotated in every form."""
    pixels = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ids = sum(rectangle(*box) * number for number, box in BOXES.items())
    rgb = np.stack([ids % 256, ids // 256, ids * 0], 2).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "pan.png")
    labels = np.full((H, W), 255, np.uint8)
    for number, box in BOXES.items():
        labels[rectangle(*box)] = CLASSES[number]
    Image.fromarray(labels).save(tmp_path / "sem.png")
    return {
        "file_name": str(tmp_path / "a.png"),
        "image_id": 42,
        "height": H,
        "width": W,
        "pan_seg_file_name": str(tmp_path / "pan.png"),
        "sem_seg_file_name": str(tmp_path / "sem.png"),
        "segments_info": [{"id": n, "category_id": CLASSES[n]} for n in BOXES],
        "annotations": [
            {"category_id": CLASSES[n], "segmentation": rectangle(*box).astype(np.uint8)}
            for n, box in BOXES.items()
        ],
    }


def only(record: dict[str, Any], target: str) -> dict[str, Any]:
    """The record as a dataset of one kind has it."""
    keys = {
        "panoptic": ("pan_seg_file_name", "segments_info"),
        "instance": ("annotations",),
        "semantic": ("sem_seg_file_name",),
    }
    others = {key for kind, names in keys.items() if kind != target for key in names}
    return {key: value for key, value in record.items() if key not in others}


def mapper(is_train: bool, target: str = "panoptic", **changes: Any) -> MaskDatasetMapper:
    args = {
        "target": target,
        "augmentations": [],
        "image_format": "RGB",
        "num_classes": 2,
        "sampler": ProposalSampler(0, 0.0),
    }
    return MaskDatasetMapper(is_train, **(args | changes))


def masks_file(tmp_path: Path, *boxes: tuple[int, ...], **more: Any) -> str:
    entries = []
    for box in boxes:
        code = mask_util.encode(np.asfortranarray(rectangle(*box).astype(np.uint8)))
        code["counts"] = code["counts"].decode()
        entries.append({"image_id": 42, "segmentation": code, **more})
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(entries))
    return str(path)


@pytest.mark.parametrize("target", ["panoptic", "instance", "semantic"])
@pytest.mark.parametrize("is_train", [True, False])
def test_masks_of_the_ground_truth(record: dict, target: str, is_train: bool):
    record = only(record, target)
    before = copy.deepcopy(record)
    result = mapper(is_train, target)(record)
    assert record.keys() == before.keys()
    found = {
        int(label): mask.numpy() for mask, label in zip(result["masks"], result["mask_labels"])
    }
    assert set(found) == {0, 1}
    for number, box in BOXES.items():
        assert np.array_equal(found[CLASSES[number]], rectangle(*box))
    assert result["masks"].dtype == torch.bool and result["mask_labels"].dtype == torch.int64
    assert "instances" not in result


@pytest.mark.parametrize("is_train", [True, False])
def test_crowd_is_no_mask(record: dict, is_train: bool):
    record["segments_info"][0]["iscrowd"] = 1
    result = mapper(is_train)(only(record, "panoptic"))
    assert result["mask_labels"].tolist() == [CLASSES[900]]


def test_training_masks_move_with_the_image(record: dict, tmp_path: Path):
    flip = [T.RandomFlip(1.0), T.ResizeTransform(H, W, 2 * H, 2 * W)]
    file = masks_file(tmp_path, (0, 0, 19, 20), (0, 30, 10, 40))
    result = mapper(True, augmentations=flip, mask_file=file)(only(record, "panoptic"))
    assert result["image"].shape == (3, 2 * H, 2 * W)

    def moved(*box: int) -> np.ndarray:
        return rectangle(*box)[:, ::-1].repeat(2, 0).repeat(2, 1)

    expected = [moved(*box) for box in (*BOXES.values(), (0, 0, 19, 20), (0, 30, 10, 40))]
    assert np.array_equal(result["masks"].numpy(), np.array(expected))
    assert result["mask_labels"].tolist() == [1, 0, 1, 2]


def test_the_image_is_that_of_the_plain_mapper(record: dict):
    chain = [T.RandomFlip(0.5), T.RandomCrop("absolute", (30, 40))]
    plain = DatasetMapper(
        True, target="panoptic", augmentations=chain, image_format="RGB", pad_to=(48, 48)
    )
    np.random.seed(3)
    expected = plain(only(record, "panoptic"))
    np.random.seed(3)
    result = mapper(True, augmentations=chain, pad_to=(48, 48))(only(record, "panoptic"))
    assert torch.equal(result["image"], expected["image"])
    there = expected["instances"].gt_masks.flatten(1).any(1)
    assert torch.equal(result["masks"], expected["instances"].gt_masks[there])


def test_masks_where_nobody_knows_what_is_there(record: dict, tmp_path: Path):
    """A mask that is mostly void is neither an object nor known to be none."""
    file = masks_file(tmp_path, (0, 30, 10, 40), (0, 0, 20, 8))
    settings = {"mask_file": file, "extras": ["ignore"]}
    result = mapper(True, **settings)(only(record, "panoptic"))
    assert result["mask_labels"].tolist() == [1, 0, 2]
    assert np.array_equal(result["masks"][2].numpy(), rectangle(0, 0, 20, 8))


def test_an_object_counts_even_where_its_mask_is_mostly_void(record: dict, tmp_path: Path):
    file = masks_file(tmp_path, (0, 0, 25, 40))  # IoU 0.4 with the first object, 60 % of it void
    for threshold, expected in ((0.3, [1, 0, 1]), (0.5, [1, 0])):
        sampler = ProposalSampler(0, 0.0, threshold)
        settings = {"mask_file": file, "extras": ["ignore"], "sampler": sampler}
        result = mapper(True, **settings)(only(record, "panoptic"))
        assert result["mask_labels"].tolist() == expected


def test_inference_keeps_masks_at_the_size_of_the_file(record: dict):
    resize = [T.ResizeTransform(H, W, 2 * H, 2 * W)]
    result = mapper(False, augmentations=resize)(only(record, "panoptic"))
    assert result["image"].shape == (3, 2 * H, 2 * W)
    assert result["masks"].shape == (2, H, W)
    assert (result["height"], result["width"]) == (H, W)


def test_inference_on_masks_of_a_file(record: dict, tmp_path: Path):
    file = masks_file(tmp_path, (0, 0, 19, 20), (0, 30, 10, 40), score=0.5)
    result = mapper(False, mask_file=file)(only(record, "panoptic"))
    assert isinstance(result["masks"], RleMasks)
    assert result["mask_labels"].tolist() == [1, 2]
    assert result["mask_scores"].tolist() == [0.5, 0.5]
    unlabelled = {k: v for k, v in only(record, "instance").items() if k != "annotations"}
    result = mapper(False, "instance", mask_file=file)(unlabelled)
    assert "mask_labels" not in result and len(result["masks"]) == 2


def test_an_image_that_the_file_of_masks_does_not_list(record: dict, tmp_path: Path):
    file = masks_file(tmp_path, (0, 0, 19, 20))
    other = {**only(record, "panoptic"), "image_id": 43}
    result = mapper(False, mask_file=file)(other)
    assert len(result["masks"]) == 0 and result["mask_labels"].shape == (0,)
    assert len(mapper(True, mask_file=file)(other)["masks"]) == 2


def test_from_a_config(record: dict, tmp_path: Path):
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = "MaskClassifier"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.INPUT.DATASET_MAPPER_NAME = "coco_panoptic_lsj"
    cfg.INPUT.FORMAT, cfg.INPUT.IMAGE_SIZE = "RGB", 64
    node = cfg.INPUT.MASK_PROPOSALS
    node.JITTERED, node.MADE_UP, node.IOU_THRESHOLD, node.MAX_MASKS = 4, 0.25, 0.6, 9
    node.TRAIN_FILE = masks_file(tmp_path, (0, 0, 19, 20))
    train, test = build_mapper(cfg), build_mapper(cfg, is_train=False)
    assert train.sampler == ProposalSampler(4, 0.25, 0.6, 9)
    assert train.mask_file is not None and test.mask_file is None
    assert train(only(record, "panoptic"))["masks"].shape[1:] == (64, 64)
    assert isinstance(test, MaskDatasetMapper)


# Errors


def test_nothing_to_name(record: dict):
    unlabelled = {k: v for k, v in only(record, "instance").items() if k != "annotations"}
    with pytest.raises(ValueError, match=r"a.png: there are no masks to name.*TEST_FILE"):
        mapper(False, "instance")(unlabelled)


@pytest.mark.parametrize("is_train", [True, False])
def test_masks_of_another_image(record: dict, tmp_path: Path, is_train: bool):
    file = masks_file(tmp_path, (0, 0, 19, 20))
    entries = json.loads(Path(file).read_text())
    entries[0]["segmentation"]["size"] = [W, H]
    Path(file).write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"a.png: mask 0: .* has masks of 40x60 pixels"):
        mapper(is_train, mask_file=file)(only(record, "panoptic"))


def test_needs_the_number_of_classes():
    with pytest.raises(ValueError, match="needs num_classes, which stands for no-object"):
        mapper(True, num_classes=None)
