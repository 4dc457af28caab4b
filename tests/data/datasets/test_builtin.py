"""All registered names agree with the published ones, and registering is cheap and harmless."""

import json
import os
import time
from collections import Counter

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import mask2former.data.datasets as datasets
from mask2former.data.categories import load_categories


@pytest.fixture(scope="module")
def facts(shared):
    return json.loads((shared / "reference" / "registry_facts.json").read_text())


def _plain(metadata: dict) -> dict:
    """As json would have it: keys of dicts as strings."""
    return json.loads(json.dumps(metadata))


def test_metadata_of_new_datasets_is_the_published_one(facts):
    for name, expected in facts["datasets_new"].items():
        assert name in DatasetCatalog
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
