"""Datasets of one's own: names of classes, and what is said when something does not fit."""

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.config import get_config, load_config
from mask2former.data import register, register_custom
from tests.data.datasets.own import SHAPES, rewrite


@pytest.fixture(autouse=True)
def _own_catalogs(empty_catalogs):
    """No name is taken when a test begins."""


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
        register(**rewrite(instance, categories=twice))


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
    other = rewrite(instance, categories=[{"id": 1, "name": "disc"}])
    with pytest.raises(ValueError, match=rf"{other['annotations']}.*category id [2-6], which"):
        register(**other)
    categories = [{"id": i, "name": str(i), "isthing": 1} for i in range(1, 7)]
    with pytest.raises(ValueError, match=r"image 1, segment \d+: has the category id \d+, which"):
        register(**rewrite(panoptic, categories=categories))


def test_panoptic_needs_isthing(panoptic):
    with pytest.raises(ValueError, match="category 1: the category has to have isthing 0 or 1"):
        register(**rewrite(panoptic, categories=[{"id": 1, "name": "disc"}]))


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
        register(**rewrite(video, annotations=[{**content["annotations"][0], **change}]))


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
        register(**rewrite(video, videos=videos))


def test_sem_seg_folders_without_a_match(tmp_path, sem_seg):
    (tmp_path / "labels").mkdir()
    register(**{**sem_seg, "sem_seg_root": str(tmp_path / "labels")})
    with pytest.raises(FileNotFoundError, match="none of the 10 images in .* among the 0 in"):
        DatasetCatalog.get("mine_sem_seg")
