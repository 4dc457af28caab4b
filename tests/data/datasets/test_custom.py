"""Datasets of one's own: by call, by config, and what is said when something does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.config import get_config, load_config
from mask2former.data import register, register_custom

SHAPES = ["disc", "square", "triangle", "star", "ring", "cross", "sky", "grass", "water", "wall"]


@pytest.fixture(autouse=True)
def _own_catalogs(empty_catalogs):
    """No name is taken when a test begins."""


@pytest.fixture
def instance(shapes_root) -> dict:
    folder = shapes_root / "shapes"
    return {
        "name": "mine_instance",
        "task": "instance",
        "image_root": str(folder / "images" / "train"),
        "annotations": str(folder / "annotations" / "instances_train.json"),
    }


@pytest.fixture
def panoptic(shapes_root) -> dict:
    folder = shapes_root / "shapes"
    return {
        "name": "mine_panoptic",
        "task": "panoptic",
        "image_root": str(folder / "images" / "train"),
        "annotations": str(folder / "annotations" / "panoptic_train.json"),
        "panoptic_root": str(folder / "panoptic_train"),
    }


@pytest.fixture
def sem_seg(shapes_root) -> dict:
    folder = shapes_root / "shapes"
    return {
        "name": "mine_sem_seg",
        "task": "sem_seg",
        "image_root": str(folder / "images" / "train"),
        "sem_seg_root": str(folder / "sem_seg_train"),
        "classes": SHAPES,
    }


@pytest.fixture
def video(tmp_path) -> dict:
    """Two videos of 3 and 1 frames; category ids 7 and 3, in that order."""
    content = {
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "videos": [
            {"id": 1, "height": 4, "width": 6, "length": 3, "file_names": ["a/0.jpg"] * 3},
            {"id": 5, "height": 4, "width": 6, "length": 1, "file_names": ["b/0.jpg"]},
        ],
        "annotations": [
            {
                "id": 9,
                "video_id": 1,
                "category_id": 7,
                "iscrowd": 0,
                "bboxes": [[0, 0, 2, 2], None, [1, 1, 2, 2]],
                "segmentations": [[[0, 0, 2, 0, 2, 2]], None, {"size": [4, 6], "counts": [24]}],
                "areas": [2, None, 0],
            }
        ],
    }
    path = tmp_path / "video.json"
    path.write_text(json.dumps(content))
    frames = tmp_path / "JPEGImages"
    for name in ("a", "b"):
        (frames / name).mkdir(parents=True)
        Image.new("RGB", (6, 4)).save(frames / name / "0.jpg")
    entry = {"name": "mine_video", "task": "video", "image_root": str(frames)}
    return {**entry, "annotations": str(path)}


def _change(entry: dict, **changes) -> dict:
    """Writes the entry's json with other contents, and returns the entry for it."""
    path = Path(entry["annotations"])
    content = {**json.loads(path.read_text()), **changes}
    other = Path(entry["image_root"]).parent / f"changed_{abs(hash(str(changes)))}.json"
    other.write_text(json.dumps(content))
    return {**entry, "annotations": str(other)}


def _config(*entries: dict, train: str = "", classes: int | None = None) -> CfgNode:
    cfg = get_config()
    cfg.DATASETS.CUSTOM = list(entries)
    cfg.DATASETS.TRAIN = (train or entries[0]["name"],)
    if classes is not None:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    return cfg


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
    register(**_change(instance, categories=categories, annotations=annotations))
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
    register(**_change(panoptic, categories=categories, annotations=annotations))
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
    register(**{**_change(panoptic, images=images), "image_root": str(tmp_path)})
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
    cfg = _config(entry)
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
    cfg = _config(instance, classes=classes)
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 6


@pytest.mark.parametrize(("kind", "count"), [("panoptic", 10), ("sem_seg", 10), ("video", 2)])
def test_num_classes_of_each_task(request, kind, count):
    cfg = _config(request.getfixturevalue(kind))
    register_custom(cfg)
    assert count == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES


def test_a_conflict_says_both_numbers(instance):
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 80, but mine_instance has 6 classes"):
        register_custom(_config(instance, classes=80))


def test_train_and_test_have_to_agree(instance, sem_seg):
    cfg = _config(instance, sem_seg)
    cfg.DATASETS.TEST = ("mine_sem_seg",)
    with pytest.raises(ValueError, match="NUM_CLASSES is 6, but mine_sem_seg has 10 classes"):
        register_custom(cfg)


def test_videos_may_be_mixed_with_data_of_other_classes(video, instance):
    cfg = _config(video, instance)
    cfg.DATASETS.TRAIN = ("mine_video", "mine_instance")
    with pytest.raises(ValueError, match="NUM_CLASSES is 2, but mine_instance has 6 classes"):
        register_custom(cfg)
    cfg.MODEL.META_ARCHITECTURE = "VideoMaskFormer"
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2


def test_other_datasets_keep_their_number(instance):
    """54 is detectron2's default, which a config may mean."""
    MetadataCatalog.get("other").set(thing_classes=["a"])
    cfg = _config(instance, train="other")
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


# Bad input


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("mine", "entry 0: expected a mapping .* got 'mine'"),
        ({"name": "x", "task": "instance"}, "entry 0: no image_root; an entry may have name, task"),
        ({"name": "x", "task": "t", "image_root": ".", "root": "."}, "entry 0: unknown root"),
        (
            {"name": "x", "task": "boxes", "image_root": "."},
            "one of instance, panoptic, .* 'boxes'",
        ),
        ({"name": "x", "task": "video", "image_root": "."}, "x: .* task video needs annotations"),
        (
            {"name": "x", "task": "sem_seg", "image_root": ".", "sem_seg_root": "."},
            "x: a dataset of task sem_seg needs classes",
        ),
        (
            {
                "name": "x",
                "task": "video",
                "image_root": ".",
                "annotations": "a",
                "panoptic_root": ".",
            },
            "x: a dataset of task video has no panoptic_root",
        ),
        (
            {"name": "x", "task": "sem_seg", "image_root": ".", "sem_seg_root": ".", "classes": []},
            "x: classes has to be a list of names",
        ),
        (
            {
                "name": "x",
                "task": "sem_seg",
                "image_root": ".",
                "sem_seg_root": ".",
                "classes": {255: "sky"},
            },
            "x: label 255 cannot be both",
        ),
    ],
)
def test_bad_entries(entry, message):
    cfg = get_config()
    cfg.DATASETS.CUSTOM = [entry]
    with pytest.raises(ValueError, match=message):
        register_custom(cfg)


@pytest.mark.parametrize("key", ["image_root", "annotations"])
def test_missing_paths_are_named(instance, key):
    with pytest.raises(FileNotFoundError, match=f"/not/here is missing. {key} of the dataset mine"):
        register(**{**instance, key: "/not/here"})


def test_json_of_another_form(instance, video):
    with pytest.raises(
        ValueError, match=r"instances_train.json: expected YouTube-VIS json, .*task instance"
    ):
        register("x", "video", image_root=".", annotations=instance["annotations"])
    with pytest.raises(ValueError, match="expected a json file"):
        register("x", "video", image_root=".", annotations=__file__)
    with pytest.raises(ValueError, match="looks like annotations of videos"):
        register("x", "instance", image_root=".", annotations=video["annotations"])


def test_duplicate_category_ids(instance):
    twice = [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]
    with pytest.raises(ValueError, match="category 1: two categories have this id: 'a' and 'b'"):
        register(**_change(instance, categories=twice))


def test_names_of_classes_have_to_agree(instance):
    register(**{**instance, "name": "same", "classes": SHAPES[:6]})
    with pytest.raises(ValueError, match=r"classes is \['cat'\], but .* has \['disc'"):
        register(**{**instance, "classes": ["cat"]})


def _with_classes(text: str, tmp_path: Path) -> CfgNode:
    """A config of label maps whose classes stand in a yaml file as ``text``."""
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "c.yaml").write_text(
        f"DATASETS:\n  TRAIN: [x]\n  CUSTOM:\n  - {{name: x, task: sem_seg, classes: {text}, "
        f"image_root: {tmp_path}, sem_seg_root: {tmp_path}}}\n"
    )
    return load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[1, 2.5, 'off', dog]", ["1", "2.5", "off", "dog"]),
        ("{'3': 7, '9': 'null'}", ["7", "null"]),
    ],
)
def test_names_are_text_as_written(tmp_path, text, names):
    cfg = _with_classes(text, tmp_path)
    register_custom(cfg)
    assert MetadataCatalog.get("x").stuff_classes == cfg.MODEL.CLASSES.NAMES == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cat, off]", "x: classes, position 1: .* false, no or off without quotes .* in quotes"),
        ("{'7': yes}", "x: classes, label 7: .* true, yes or on without quotes"),
        ("[cat, null]", "x: classes, position 1: the name of a class has to be text, not None"),
        ("[1, dog, '1']", "x: classes: the name '1' is at the positions 0 and 2"),
        ("{'1': dog, '5': dog}", "x: classes: the name 'dog' is at the labels 1 and 5"),
        ("{'7': dog, '07': cat}", "x: classes has to be a list of names, or a mapping of labels"),
        ("cat", "x: classes has to be a list of names, or a mapping, not 'cat'"),
        ("7", "x: classes has to be a list of names, or a mapping, not 7"),
    ],
)
def test_classes_that_are_no_names(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        register_custom(_with_classes(text, tmp_path))


def test_a_label_that_occurs_twice_in_other_forms(sem_seg):
    with pytest.raises(ValueError, match="mine_sem_seg: classes: a label occurs twice in"):
        register(**{**sem_seg, "classes": {7: "dog", "7": "cat"}})


def test_unknown_category_names_file_and_id(instance, panoptic):
    other = _change(instance, categories=[{"id": 1, "name": "disc"}])
    with pytest.raises(ValueError, match=rf"{other['annotations']}.*category id [2-6], which"):
        register(**other)
    categories = [{"id": i, "name": str(i), "isthing": 1} for i in range(1, 7)]
    with pytest.raises(ValueError, match=r"image 1, segment \d+: has the category id \d+, which"):
        register(**_change(panoptic, categories=categories))


def test_panoptic_needs_isthing(panoptic):
    with pytest.raises(ValueError, match="category 1: the category has to have isthing 0 or 1"):
        register(**_change(panoptic, categories=[{"id": 1, "name": "disc"}]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"areas": [1]}, "annotation 9: areas: expected one for each of the 3 frames"),
        ({"video_id": None}, "annotation 9: has no video_id"),
        ({"category_id": 2}, r"annotation 9: has the category id 2, which is none of .* 3, 7"),
    ],
)
def test_bad_video_annotations(video, change, message):
    content = json.loads(Path(video["annotations"]).read_text())
    with pytest.raises(ValueError, match=message):
        register(**_change(video, annotations=[{**content["annotations"][0], **change}]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 2}, "video 5: the video has 1 file names and the length 2"),
        ({"id": 1}, "video 1: two files have this id"),
    ],
)
def test_bad_videos(video, change, message):
    content = json.loads(Path(video["annotations"]).read_text())
    videos = [content["videos"][0], {**content["videos"][1], **change}]
    with pytest.raises(ValueError, match=message):
        register(**_change(video, videos=videos))


def test_sem_seg_folders_without_a_match(tmp_path, sem_seg):
    (tmp_path / "labels").mkdir()
    register(**{**sem_seg, "sem_seg_root": str(tmp_path / "labels")})
    with pytest.raises(FileNotFoundError, match="none of the 10 images in .* among the 0 in"):
        DatasetCatalog.get("mine_sem_seg")
