"""Preparation of fakes of COCO and Mapillary Vistas, read back by name, and second runs of all."""

import json
import shutil

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.data.categories import load_categories
from mask2former.data.preparation import ade20k, coco
from mask2former.errors import UserError
from tests.data import fakes
from tests.data.preparation.conftest import read_ids, read_png

# COCO


def test_coco_semantic(root):
    fakes.coco_panoptic(root)
    for split in ("train", "val"):
        coco.prepare_semantic(root, split)
    (record,) = DatasetCatalog.get("coco_2017_val_panoptic_with_sem_seg")
    assert record["image_id"] == 7
    labels = read_png(record["sem_seg_file_name"])
    classes = MetadataCatalog.get("coco_2017_val_panoptic_with_sem_seg").stuff_classes
    grass = classes.index("grass-merged")
    assert (labels == fakes.quarters(0, classes.index("dog"), grass, 255)).all()
    rows = [(s["category_id"], s["isthing"]) for s in record["segments_info"]]
    assert rows == [(0, True), (16, True), (grass, False)]


def test_coco_semantic_errors(root):
    fakes.coco_panoptic(root)
    path = root / "coco" / "annotations" / "panoptic_train2017.json"
    content = json.loads(path.read_text())
    segments = content["annotations"][0]["segments_info"]
    segments[0]["category_id"] = 12
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="segment 197121: has the category id 12, which is none"):
        coco.prepare_semantic(root, "train")
    content["categories"].append({"id": 12, "name": "none of COCO's", "isthing": 0})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"000000000007.png: unknown category ids \[12\]"):
        coco.prepare_semantic(root, "train")
    segments[0].update(category_id=1, id=77)
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"\[197121\] are only in the PNG, \[77\] only in the json"
    ):
        coco.prepare_semantic(root, "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected COCO panoptic json"),
        ('{"images": []}', "panoptic_train2017.json"),
        ('{"annotations": [5], "categories": [{"id": 1, "name": "a"}]}', "annotation number 0"),
        ('{"annotations": [{"image_id": 7}], "categories": [{"id": 1}]}', "annotation"),
        (
            '{"annotations": [{"image_id": 7, "file_name": "7.png", "segments_info": [{"id": 1}]}]'
            ', "categories": [{"id": 1, "name": "a"}]}',
            "category",
        ),
    ],
)
@pytest.mark.parametrize("prepare", [coco.prepare_semantic, coco.prepare_mapillary_instances])
def test_json_of_another_form(root, prepare, text, message):
    folders = ["coco/annotations", "mapillary_vistas/training/panoptic"]
    for folder, name in zip(folders, ["panoptic_train2017.json", "panoptic_2018.json"]):
        (root / folder).mkdir(parents=True)
        (root / folder / name).write_text(text)
    with pytest.raises(UserError, match=message.replace("train2017", r"(train2017|2018)")):
        prepare(root, "train")


def test_real_coco_panoptic_annotations(shared, tmp_path):
    """The label map has the class of every segment of two real images."""
    folder = tmp_path / "coco"
    shutil.copytree(shared / "data/panoptic2/panoptic", folder / "panoptic_val2017")
    (folder / "annotations").mkdir()
    source = shared / "data/panoptic2/panoptic.json"
    shutil.copy(source, folder / "annotations/panoptic_val2017.json")
    coco.prepare_semantic(tmp_path, "val")
    content = json.loads(source.read_text())
    position = {c["id"]: i for i, c in enumerate(content["categories"])}
    for annotation in content["annotations"]:
        labels = read_png(folder / "panoptic_semseg_val2017" / annotation["file_name"])
        ids = read_ids(folder / "panoptic_val2017" / annotation["file_name"])
        assert (labels[ids == 0] == 255).all()
        for segment in annotation["segments_info"]:
            found = np.unique(labels[ids == segment["id"]])
            assert found.tolist() == [position[segment["category_id"]]]


def test_coco_stuff_10k(root):
    fakes.coco_stuff_10k(root)
    for split in coco.STUFF_SPLITS:
        coco.prepare_stuff_10k(root, split)
    (record,) = DatasetCatalog.get("coco_2017_test_stuff_10k_sem_seg")
    assert (read_png(record["sem_seg_file_name"]) == fakes.quarters(0, 1, 170, 255)).all()
    assert record["file_name"].endswith("images_detectron2/test/COCO_train2014_78.jpg")


def test_coco_stuff_10k_errors(root):
    fakes.coco_stuff_10k(root)
    folder = root / "coco" / "coco_stuff_10k"
    path = folder / "annotations" / "COCO_train2014_78.mat"
    fakes.savemat(path, {"S": fakes.quarters(12, 1, 1, 1)})  # there is no class 12
    with pytest.raises(ValueError, match=r"COCO_train2014_78.mat: unknown labels \[12\]"):
        coco.prepare_stuff_10k(root, "test")
    fakes.savemat(path, {"T": fakes.quarters(1, 1, 1, 1)})
    with pytest.raises(ValueError, match=r"78.mat: expected a Matlab file with a label map S"):
        coco.prepare_stuff_10k(root, "test")
    path.write_bytes(b"not from Matlab")
    with pytest.raises(ValueError, match=r"78.mat: expected a Matlab file with a label map S"):
        coco.prepare_stuff_10k(root, "test")
    good = path.parent / "good.mat"
    fakes.savemat(good, {"S": fakes.quarters(1, 1, 1, 1)})
    maps = ["text", np.zeros((2, 2, 2)), np.zeros((0, 0)), np.full((2, 2), 1 + 2j)]
    for wrong in maps:
        fakes.savemat(path, {"S": wrong})
        with pytest.raises(UserError, match=r"78.mat: expected a label map S \(H, W\)"):
            coco.prepare_stuff_10k(root, "test")
    for cut in range(130, good.stat().st_size - 1, 16):  # behind the head, from where scipy reads
        path.write_bytes(good.read_bytes()[:cut])
        with pytest.raises(UserError, match=r"78.mat: expected a Matlab file with a label map S"):
            coco.prepare_stuff_10k(root, "test")
    for names in (b"\xff\xfe", b"a\0b"):
        (folder / "imageLists" / "test.txt").write_bytes(names)
        with pytest.raises(UserError, match=r"test.txt: expected names of photos"):
            coco.prepare_stuff_10k(root, "test")
    shutil.rmtree(folder / "imageLists")
    with pytest.raises(FileNotFoundError, match=r"test.txt is missing. datasets/README.md"):
        coco.prepare_stuff_10k(root, "test")


# Mapillary Vistas


def test_mapillary_vistas(root):
    fakes.mapillary_vistas(root)
    for split in ("train", "val"):
        coco.prepare_mapillary_instances(root, split)
    (record,) = DatasetCatalog.get("mapillary_vistas_instance_val")
    names = MetadataCatalog.get("mapillary_vistas_instance_val").thing_classes
    rows = [(names[a["category_id"]], a["bbox"]) for a in record["annotations"]]
    assert rows == [("Bird", [0, 0, 8, 6]), ("Car", [0, 6, 8, 6]), ("Car", [8, 6, 8, 6])]
    (panoptic,) = DatasetCatalog.get("mapillary_vistas_panoptic_val")
    assert panoptic["image_id"] == record["image_id"] == "aBc-1"
    assert [s["category_id"] for s in panoptic["segments_info"]] == [0, 27, 55, 55]
    assert len(DatasetCatalog.get("mapillary_vistas_sem_seg_train")) == 1
    # The ids in the file are those of the panoptic annotations, for evaluating panoptic models.
    content = json.loads((root / "mapillary_vistas/validation/instances_val.json").read_text())
    assert [a["category_id"] for a in content["annotations"]] == [1, 56, 56]
    assert [c["id"] for c in content["categories"]] == [
        c["id"] for c in load_categories("mapillary_vistas") if c["isthing"]
    ]


# All


@pytest.mark.parametrize(
    ("fake", "prepare", "target"),
    [
        (fakes.ade20k, ade20k.prepare_semantic, "**/annotations_detectron2/training/*.png"),
        (fakes.ade20k, ade20k.prepare_panoptic, "*/ade20k_panoptic_train.json"),
        (fakes.ade20k, ade20k.prepare_instances, "*/ade20k_instance_train.json"),
        (fakes.ade20k_full, ade20k.prepare_full, "**/annotations_detectron2/training/*.tif"),
        (fakes.coco_panoptic, coco.prepare_semantic, "coco/panoptic_semseg_train2017/*.png"),
        (fakes.coco_stuff_10k, coco.prepare_stuff_10k, "**/annotations_detectron2/train/*.png"),
        (fakes.mapillary_vistas, coco.prepare_mapillary_instances, "**/instances_train.json"),
    ],
)
def test_a_second_run_keeps_what_is_there_unless_told(tmp_path, fake, prepare, target):
    with pytest.raises(FileNotFoundError, match=r"datasets/README.md"):
        prepare(tmp_path, "train")
    fake(tmp_path)
    prepare(tmp_path, "train")
    (path,) = tmp_path.glob(target)
    whole = path.read_bytes()
    path.write_bytes(b"mine")
    prepare(tmp_path, "train")
    assert path.read_bytes() == b"mine"
    prepare(tmp_path, "train", overwrite=True, workers=2)
    assert path.read_bytes() == whole
    assert not list(tmp_path.rglob(".*"))  # neither journals nor partial files
