"""All registered names agree with the published ones, and registering is cheap and harmless."""

import json
import os
import time
from collections import Counter

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import mask2former.data.datasets as datasets
from mask2former.data.categories import load_categories
from mask2former.data.datasets import catalog
from mask2former.data.datasets.builtin import register_shapes


@pytest.fixture(scope="module")
def facts(shared):
    return json.loads((shared / "reference" / "registry_facts.json").read_text())


def _plain(metadata: dict) -> dict:
    """As json would have it: keys of dicts as strings."""
    return json.loads(json.dumps(metadata))


def test_metadata_of_new_datasets_is_the_published_one(facts):
    for name, expected in facts["datasets_new"].items():
        assert name in catalog.names()
        found = _plain(MetadataCatalog.get(name).as_dict())
        root = os.environ.get("DETECTRON2_DATASETS", "datasets")
        for key, value in expected.items():
            if isinstance(value, str) and value.startswith("datasets/"):
                value = os.path.join(root, value.removeprefix("datasets/"))
            assert found[key] == value, (name, key)


def test_metadata_of_detectron2s_datasets_is_changed_as_published(facts):
    for name, expected in facts["datasets_changed"].items():
        found = _plain(MetadataCatalog.get(name).as_dict())
        for key in ("thing_classes", "thing_colors", "stuff_classes", "stuff_colors"):
            assert found.get(key) == expected.get(key), (name, key)


@pytest.mark.parametrize(
    ("name", "things", "classes", "ignore", "evaluator"),
    [
        ("ade20k_full_sem_seg_val", None, 847, 65535, "sem_seg"),
        ("ade20k_panoptic_val", 100, 150, 255, "ade20k_panoptic_seg"),
        ("ade20k_instance_val", 100, None, None, "coco"),
        ("coco_2017_val_panoptic_with_sem_seg", 80, 133, 255, "coco_panoptic_seg"),
        ("coco_2017_test_stuff_10k_sem_seg", None, 171, 255, "sem_seg"),
        ("mapillary_vistas_sem_seg_val", None, 65, 65, "sem_seg"),
        ("mapillary_vistas_panoptic_val", 37, 65, 65, "mapillary_vistas_panoptic_seg"),
        ("mapillary_vistas_instance_val", 37, None, None, "coco"),
        ("ytvis_2019_val", 40, None, None, "ytvis"),
        ("ytvis_2021_val", 40, None, None, "ytvis"),
        ("ytvis_2022_val", 40, None, None, "ytvis"),
        ("ovis_val", 25, None, None, "ytvis"),
        ("shapes_val_panoptic", 6, 10, 255, "coco_panoptic_seg"),
        ("shapes_video_val", 6, None, None, "ytvis"),
    ],
)
def test_counts(name, things, classes, ignore, evaluator):
    metadata = MetadataCatalog.get(name)
    ids = metadata.get("thing_dataset_id_to_contiguous_id")
    assert (ids and len(ids)) == things
    stuff = metadata.get("stuff_classes")
    assert (stuff and len(stuff)) == classes
    assert metadata.get("ignore_label") == ignore
    assert metadata.evaluator_type == evaluator


def test_registering_again_changes_nothing():
    datasets.register_video_datasets()  # those of images are there since the import
    before = {name: MetadataCatalog.get(name).as_dict() for name in DatasetCatalog}
    loaders = dict(DatasetCatalog)
    datasets.register_all()
    assert {name: MetadataCatalog.get(name).as_dict() for name in DatasetCatalog} == before
    assert dict(DatasetCatalog) == loaders


def test_a_name_that_is_taken_is_left_alone(empty_catalogs):
    DatasetCatalog.register("ytvis_2019_val", lambda: ["mine"])
    MetadataCatalog.get("ytvis_2019_val").set(thing_classes=["mine"], evaluator_type="other")
    datasets.register_all()
    assert DatasetCatalog.get("ytvis_2019_val") == ["mine"]
    assert MetadataCatalog.get("ytvis_2019_val").thing_classes == ["mine"]
    assert MetadataCatalog.get("ytvis_2019_val").evaluator_type == "other"
    assert "ytvis_2019_train" in DatasetCatalog


def test_every_dataset_says_what_is_missing(empty_catalogs, tmp_path):
    datasets.register_all(str(tmp_path))
    assert len(DatasetCatalog) > 30
    for name in DatasetCatalog:
        with pytest.raises(FileNotFoundError) as raised:
            DatasetCatalog.get(name)
        message = str(raised.value)
        assert str(tmp_path) in message, name
        assert "prepare_" in message or "README" in message, name


def test_hints_name_scripts_that_exist(empty_catalogs, tmp_path, pytestconfig):
    datasets.register_all(str(tmp_path))
    folder = pytestconfig.rootpath / "datasets"
    for name in DatasetCatalog:
        with pytest.raises(FileNotFoundError) as raised:
            DatasetCatalog.get(name)
        for word in str(raised.value).replace(",", " ").split():
            if word.endswith(".py"):
                assert (folder / os.path.basename(word)).is_file(), (name, word)


@pytest.mark.parametrize(
    ("family", "count"),
    [
        ("ade20k", 150),
        ("ade20k_full", 847),
        ("coco_stuff_10k", 171),
        ("mapillary_vistas", 65),
        ("ovis", 25),
        ("shapes", 10),
        ("ytvis_2019", 40),
        ("ytvis_2021", 40),
    ],
)
def test_class_tables_have_no_duplicates(family, count):
    table = load_categories(family)
    assert len(table) == count
    for key in ("id", "name"):
        assert Counter(c[key] for c in table).most_common(1)[0][1] == 1
    colors = [c["color"] for c in table if "color" in c]
    assert all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in colors)


def test_unknown_class_table():
    with pytest.raises(FileNotFoundError, match="there are: ade20k, "):
        load_categories("imagenet")


def test_registration_is_cheap(empty_catalogs):
    """The whole package may take 0.3 s; registering and reading the tables takes about 10 ms."""
    load_categories.cache_clear()
    start = time.process_time()
    datasets.register_all()
    assert time.process_time() - start < 0.1


# The shapes: what detectron2's tools expect


@pytest.fixture
def shapes(empty_catalogs, shapes_root):
    register_shapes(str(shapes_root))


def test_names_of_the_shapes(shapes):
    tasks = ("instance", "panoptic", "sem_seg")
    assert set(DatasetCatalog) == {f"shapes_{s}_{t}" for s in ("train", "val") for t in tasks}


def test_evaluator_types_of_the_shapes(shapes):
    types = [MetadataCatalog.get(name).evaluator_type for name in sorted(DatasetCatalog)[:3]]
    assert types == ["coco", "coco_panoptic_seg", "sem_seg"]


def test_panoptic_records_of_the_shapes(shapes, shapes_root):
    records = DatasetCatalog.get("shapes_train_panoptic")
    assert len(records) == 10
    folder = shapes_root / "shapes"
    first = records[0]
    assert first["file_name"] == str(folder / "images" / "train" / "000001.jpg")
    assert first["pan_seg_file_name"] == str(folder / "panoptic_train" / "000001.png")
    assert first["sem_seg_file_name"] == str(folder / "sem_seg_train" / "000001.png")
    assert first["image_id"] == 1
    segments = [s for record in records for s in record["segments_info"]]
    assert {s["category_id"] for s in segments} <= set(range(10))
    assert all(s["isthing"] == (s["category_id"] < 6) for s in segments)


def test_instance_records_match_the_panoptic_ones(shapes):
    panoptic = DatasetCatalog.get("shapes_train_panoptic")
    for record, other in zip(DatasetCatalog.get("shapes_train_instance"), panoptic, strict=True):
        classes = [a["category_id"] for a in record["annotations"]]
        assert record["file_name"] == other["file_name"]
        assert classes == [s["category_id"] for s in other["segments_info"] if s["isthing"]]


def test_semantic_records_of_the_shapes(shapes):
    records = DatasetCatalog.get("shapes_val_sem_seg")
    assert len(records) == 4
    assert records[3]["sem_seg_file_name"].endswith("sem_seg_val/000004.png")


def test_loading_keeps_the_metadata(shapes):
    """detectron2's instance loader asserts that the json's classes are the registered ones."""
    before = MetadataCatalog.get("shapes_val_instance").as_dict()
    DatasetCatalog.get("shapes_val_instance")
    assert MetadataCatalog.get("shapes_val_instance").as_dict() == before


@pytest.mark.parametrize("task", ["instance", "panoptic", "sem_seg"])
def test_missing_folder_names_the_path_and_the_command(empty_catalogs, tmp_path, task):
    register_shapes(str(tmp_path))
    with pytest.raises(FileNotFoundError) as raised:
        DatasetCatalog.get(f"shapes_train_{task}")
    message = str(raised.value)
    assert str(tmp_path / "shapes") in message
    assert f"python datasets/prepare_shapes.py --output {tmp_path}" in message
