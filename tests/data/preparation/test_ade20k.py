"""Preparation of fakes of ADE20K, read back through the registered names."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as mask_util

from mask2former.data.preparation import ade20k
from mask2former.errors import UserError
from tests.data import fakes
from tests.data.preparation.conftest import read_ids, read_png

# ADE20K


def test_ade20k_labels(root):
    fakes.ade20k(root)
    for split in ("train", "val"):
        ade20k.prepare_semantic(root, split)
    folder = root / "ADEChallengeData2016" / "annotations_detectron2"
    labels = read_png(folder / "validation" / "ADE_val_00000001.png")
    assert (labels == fakes.quarters(0, 255, 3, 7)).all() and labels.dtype == np.uint8
    assert (folder / "training" / "ADE_train_00000001.png").exists()


def test_ade20k_panoptic(root):
    fakes.ade20k(root)
    for split in ("train", "val"):
        ade20k.prepare_semantic(root, split)
        ade20k.prepare_panoptic(root, split)
    (record,) = DatasetCatalog.get("ade20k_panoptic_val")
    assert record["image_id"] == "ADE_val_00000001"
    ids = read_ids(record["pan_seg_file_name"])
    expected = fakes.quarters(0, 255, 3, 255)
    expected[6:, 8:11] = expected[6:, 12:] = 7
    expected[1:3, 2:6] = 36
    found = np.full(expected.shape, 255)
    for segment in record["segments_info"]:
        mask = ids == segment["id"]
        assert segment["area"] == mask.sum() > 0
        found[mask] = segment["category_id"]
    assert (found == expected).all()
    rows = sorted((s["category_id"], s["isthing"], s["area"]) for s in record["segments_info"])
    assert rows == [(0, False, 40), (3, False, 48), (7, True, 18), (7, True, 24), (36, True, 8)]
    lamp = next(s for s in record["segments_info"] if s["category_id"] == 36)
    assert lamp["bbox"] == [2, 1, 4, 2]
    assert MetadataCatalog.get("ade20k_panoptic_val").stuff_classes[36] == "lamp"


def test_ade20k_instances(root):
    fakes.ade20k(root)
    for split in ("train", "val"):
        ade20k.prepare_instances(root, split)
    (record,) = DatasetCatalog.get("ade20k_instance_train")
    names = MetadataCatalog.get("ade20k_instance_train").thing_classes
    rows = [(names[a["category_id"]], a["bbox"]) for a in record["annotations"]]
    assert sorted(rows) == [("bed", [8, 6, 3, 6]), ("bed", [12, 6, 4, 6]), ("lamp", [2, 1, 4, 2])]
    assert record["image_id"] == "ADE_train_00000001"
    assert (record["height"], record["width"]) == (12, 16)
    assert sorted(a["id"] for a in record["annotations"]) == [1, 2, 3]
    masks = sum(mask_util.decode(a["segmentation"]) for a in record["annotations"])
    assert masks.sum() == 8 + 18 + 24 and masks.max() == 1


def test_things_may_hide_stuff(root):
    fakes.ade20k(root)
    folder = root / "ADEChallengeData2016" / "annotations_instance" / "training"
    everywhere = np.broadcast_to(np.uint8([1, 1, 0]), (12, 16, 3))
    fakes.save(folder / "ADE_train_00000001.png", everywhere)
    ade20k.prepare_panoptic(root, "train")
    content = json.loads((root / "ADEChallengeData2016/ade20k_panoptic_train.json").read_text())
    (segment,) = content["annotations"][0]["segments_info"]
    assert (segment["category_id"], segment["area"]) == (7, 192)


def test_ade20k_out_of_range(root):
    fakes.ade20k(root)
    folder = root / "ADEChallengeData2016"
    name = "training/ADE_train_00000001.png"
    fakes.save(folder / "annotations" / name, fakes.quarters(1, 2, 3, 151))
    with pytest.raises(ValueError, match=rf"{name}: expected labels 0 to 150, found 151"):
        ade20k.prepare_semantic(root, "train")
    fakes.save(folder / "annotations" / name, fakes.quarters(1, 2, 3, 4)[:6])
    with pytest.raises(ValueError, match=r"\(12, 16\) pixels \(H, W\), but .*: \(6, 16\)"):
        ade20k.prepare_panoptic(root, "train")
    codes = np.full((12, 16, 3), 101, np.uint8)
    fakes.save(folder / "annotations_instance" / name, codes)
    with pytest.raises(ValueError, match=r"expected classes 1 to 100, found 101"):
        ade20k.prepare_instances(root, "train")
    assert not list(folder.glob("*.json"))


# ADE20K with all classes


def test_ade20k_full(root):
    fakes.ade20k_full(root)
    for split in ("train", "val"):
        ade20k.prepare_full(root, split)
    (record,) = DatasetCatalog.get("ade20k_full_sem_seg_val")
    labels = read_png(record["sem_seg_file_name"])
    assert labels.dtype == np.uint16
    assert (labels == fakes.quarters(0, 1, 65535, 65535, np.uint16)).all()
    assert read_png(record["file_name"]).shape == (12, 16, 3)


def test_ade20k_full_json_in_latin_1_and_broken(root):
    fakes.ade20k_full(root)
    (path,) = root.glob("**/training/**/*.json")
    path.write_bytes(path.read_text().replace("nobody", "\u00e9").encode("latin-1"))
    ade20k.prepare_full(root, "train")
    path.write_text('{"annotation": {}}')
    with pytest.raises(ValueError, match=r"ADE_train_00000001.json: expected annotation.object"):
        ade20k.prepare_full(root, "train", overwrite=True)
    for text in (
        "[" * 100_000,
        '{"annotation": {"object": [{"name": "wall", "name_ndx": 1e999}]}}',
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=r"ADE_train_00000001.json: expected annotation.object"):
            ade20k.prepare_full(root, "train", overwrite=True)
