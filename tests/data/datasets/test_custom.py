"""Datasets of one's own, by call and by config: what is registered, and the number of classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.config import get_config, load_config
from mask2former.data import register, register_custom
from tests.data.datasets.own import SHAPES, make_config, rewrite


@pytest.fixture(autouse=True)
def _own_catalogs(empty_catalogs):
    """No name is taken when a test begins."""


# What is registered


def test_instance(instance):
    register(**instance)
    metadata = MetadataCatalog.get("mine_instance")
    assert metadata.evaluator_type == "coco"
    assert metadata.thing_classes == SHAPES[:6]
    assert metadata.thing_colors[0] == [230, 74, 60]  # from the json
    records = DatasetCatalog.get("mine_instance")
    assert len(records) == 10
    assert all(a["id"] > 0 for record in records for a in record["annotations"])


def test_category_ids_need_not_be_contiguous_nor_sorted(instance):
    content = json.loads(Path(instance["annotations"]).read_text())
    ids = {1: 90, 2: 20, 3: 70, 4: 41, 5: 8, 6: 55}
    categories = [{"id": ids[c["id"]], "name": c["name"]} for c in content["categories"]]
    annotations = [{**a, "category_id": ids[a["category_id"]]} for a in content["annotations"]]
    register(**rewrite(instance, categories=categories, annotations=annotations))
    metadata = MetadataCatalog.get("mine_instance")
    assert metadata.thing_classes == ["ring", "square", "star", "cross", "triangle", "disc"]
    by_class = {8: 0, 20: 1, 41: 2, 55: 3, 70: 4, 90: 5}
    assert metadata.thing_dataset_id_to_contiguous_id == by_class
    found = [
        a["category_id"] for r in DatasetCatalog.get("mine_instance") for a in r["annotations"]
    ]
    assert sorted(found) == sorted(by_class[a["category_id"]] for a in annotations)
    assert len({tuple(c) for c in metadata.thing_colors}) == 6


def test_panoptic_has_things_first(panoptic):
    content = json.loads(Path(panoptic["annotations"]).read_text())
    # Stuff gets the lowest ids.
    ids = {c["id"]: (c["id"] + 3) % 10 + 1 for c in content["categories"]}
    categories = [{**c, "id": ids[c["id"]]} for c in content["categories"]]
    annotations = [
        {
            **a,
            "segments_info": [
                {**s, "category_id": ids[s["category_id"]]} for s in a["segments_info"]
            ],
        }
        for a in content["annotations"]
    ]
    register(**rewrite(panoptic, categories=categories, annotations=annotations))
    metadata = MetadataCatalog.get("mine_panoptic")
    assert metadata.evaluator_type == "coco_panoptic_seg"
    assert metadata.stuff_classes == SHAPES
    assert metadata.thing_classes == SHAPES[:6]
    assert sorted(metadata.thing_dataset_id_to_contiguous_id.values()) == list(range(6))
    record = DatasetCatalog.get("mine_panoptic")[0]
    assert "sem_seg_file_name" not in record
    assert all(s["isthing"] == (s["category_id"] < 6) for s in record["segments_info"])


def test_panoptic_images_are_named_by_the_json(panoptic, tmp_path):
    content = json.loads(Path(panoptic["annotations"]).read_text())
    images = [{**i, "file_name": f"photo{i['id']}.jpg"} for i in content["images"]]
    for image in images:
        (tmp_path / image["file_name"]).touch()
    register(**{**rewrite(panoptic, images=images), "image_root": str(tmp_path)})
    record = DatasetCatalog.get("mine_panoptic")[2]
    assert record["file_name"] == str(tmp_path / "photo3.jpg")


def test_sem_seg(sem_seg):
    register(**sem_seg)
    metadata = MetadataCatalog.get("mine_sem_seg")
    assert metadata.stuff_classes == SHAPES
    assert metadata.ignore_label == 255 and metadata.evaluator_type == "sem_seg"
    assert metadata.get("sem_seg_labels") is None
    assert len(DatasetCatalog.get("mine_sem_seg")) == 10


def test_sem_seg_with_labels_of_any_number(sem_seg):
    register(**{**sem_seg, "classes": {7: "road", 70: "car", 9: "sky"}, "ignore_label": 0})
    metadata = MetadataCatalog.get("mine_sem_seg")
    assert metadata.stuff_classes == ["road", "car", "sky"]
    assert metadata.sem_seg_labels == [7, 70, 9]
    assert metadata.ignore_label == 0


def test_sem_seg_matches_names_in_subfolders_and_any_suffix(tmp_path, caplog):
    for name in ("images/a/1.JPG", "images/a/2.png", "images/b/1.jpeg", "images/b/extra.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("labels/a/1.png", "labels/a/2.tif", "labels/b/1.png", "labels/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(path.with_suffix(".png"))
        path.with_suffix(".png").rename(path)
    roots = {"image_root": str(tmp_path / "images"), "sem_seg_root": str(tmp_path / "labels")}
    register("mine", "sem_seg", classes=["x"], **roots)
    pairs = [tuple(record.values()) for record in DatasetCatalog.get("mine")]
    expected = [("a/1.JPG", "a/1.png"), ("a/2.png", "a/2.tif"), ("b/1.jpeg", "b/1.png")]
    assert pairs == [
        (str(tmp_path / "images" / i), str(tmp_path / "labels" / j)) for i, j in expected
    ]
    assert "b/extra" in caplog.text


def test_video(video):
    register(**video)
    metadata = MetadataCatalog.get("mine_video")
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.evaluator_type == "ytvis"
    first, second = DatasetCatalog.get("mine_video")
    assert first["length"] == 3 and first["file_names"][2].endswith("JPEGImages/a/0.jpg")
    assert first["annotations"][0]["category_id"] == 1
    assert first["annotations"][0]["segmentations"][1] is None
    assert second["annotations"] == [] and second["video_id"] == 5


def test_real_annotations(shared):
    data = shared / "data"
    root = str(data / "coco28" / "images")
    register("coco28", "instance", image_root=root, annotations=str(data / "coco28/instances.json"))
    records = DatasetCatalog.get("coco28")
    assert len(records) == 28 and sum(len(r["annotations"]) for r in records) == 159
    assert len(MetadataCatalog.get("coco28").thing_classes) == 80

    folder = data / "panoptic2"
    register(
        "panoptic2",
        "panoptic",
        image_root=str(folder / "images"),
        annotations=str(folder / "panoptic.json"),
        panoptic_root=str(folder / "panoptic"),
    )
    assert [len(r["segments_info"]) for r in DatasetCatalog.get("panoptic2")] == [18, 32]
    metadata = MetadataCatalog.get("panoptic2")
    assert len(metadata.thing_classes) == 80 and len(metadata.stuff_classes) == 133

    folder = data / "video"
    paths = {"image_root": folder / "JPEGImages", "annotations": folder / "annotations.json"}
    register("clips", "video", **{key: str(path) for key, path in paths.items()})
    assert [r["length"] for r in DatasetCatalog.get("clips")] == [16, 16]


def test_the_same_call_again_does_nothing_and_another_is_refused(instance, panoptic):
    register(**instance)
    register(**instance)
    with pytest.raises(ValueError, match="'mine_instance' is taken: it was registered with"):
        register(**{**panoptic, "name": "mine_instance"})
    DatasetCatalog.register("theirs", list)
    with pytest.raises(ValueError, match="'theirs' is taken: .* by detectron2 or a plugin"):
        register(**{**instance, "name": "theirs"})


def test_labels_survive_the_config_file(sem_seg, tmp_path):
    entry = {**sem_seg, "classes": {7: "road", 9: "sky"}, "ignore_label": 0}
    cfg = make_config(entry)
    register_custom(cfg)
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    again = load_config(path)
    register_custom(again)
    assert MetadataCatalog.get("mine_sem_seg").sem_seg_labels == [7, 9]
    assert again.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2


# NUM_CLASSES


@pytest.mark.parametrize("classes", [None, -1, 6])
def test_num_classes_is_taken_from_the_data(instance, classes):
    cfg = make_config(instance, classes=classes)
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 6


@pytest.mark.parametrize(("kind", "count"), [("panoptic", 10), ("sem_seg", 10), ("video", 2)])
def test_num_classes_of_each_task(request, kind, count):
    cfg = make_config(request.getfixturevalue(kind))
    register_custom(cfg)
    assert count == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES


def test_a_conflict_says_both_numbers(instance):
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 80, but mine_instance has 6 classes"):
        register_custom(make_config(instance, classes=80))


def test_train_and_test_have_to_agree(instance, sem_seg):
    cfg = make_config(instance, sem_seg)
    cfg.DATASETS.TEST = ("mine_sem_seg",)
    with pytest.raises(ValueError, match="NUM_CLASSES is 6, but mine_sem_seg has 10 classes"):
        register_custom(cfg)


def test_videos_may_be_mixed_with_data_of_other_classes(video, instance):
    cfg = make_config(video, instance)
    cfg.DATASETS.TRAIN = ("mine_video", "mine_instance")
    with pytest.raises(ValueError, match="NUM_CLASSES is 2, but mine_instance has 6 classes"):
        register_custom(cfg)
    cfg.MODEL.META_ARCHITECTURE = "VideoMaskFormer"
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2


def test_other_datasets_keep_their_number(instance):
    """54 is detectron2's default, which a config may mean."""
    MetadataCatalog.get("other").set(thing_classes=["a"])
    cfg = make_config(instance, train="other")
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 54
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = -1
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 1


def test_entries_come_from_the_command_line(instance):
    cfg = get_config()
    cfg.merge_from_list(
        ["DATASETS.CUSTOM", str([instance]), "DATASETS.TRAIN", "('mine_instance',)"]
    )
    register_custom(cfg)
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 6
