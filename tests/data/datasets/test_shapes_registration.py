"""The registered names of the shapes dataset give what detectron2's tools expect."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.data.datasets.shapes import register_shapes


@pytest.fixture
def registered(empty_catalogs, shapes_root):
    register_shapes(str(shapes_root))


def test_names(registered):
    tasks = ("instance", "panoptic", "sem_seg")
    assert set(DatasetCatalog) == {f"shapes_{s}_{t}" for s in ("train", "val") for t in tasks}


def test_evaluator_types(registered):
    types = [MetadataCatalog.get(name).evaluator_type for name in sorted(DatasetCatalog)[:3]]
    assert types == ["coco", "coco_panoptic_seg", "sem_seg"]


def test_panoptic_records(registered, shapes_root):
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


def test_instance_records_match_the_panoptic_ones(registered):
    panoptic = DatasetCatalog.get("shapes_train_panoptic")
    for record, other in zip(DatasetCatalog.get("shapes_train_instance"), panoptic, strict=True):
        classes = [a["category_id"] for a in record["annotations"]]
        assert record["file_name"] == other["file_name"]
        assert classes == [s["category_id"] for s in other["segments_info"] if s["isthing"]]


def test_semantic_records(registered):
    records = DatasetCatalog.get("shapes_val_sem_seg")
    assert len(records) == 4
    assert records[3]["sem_seg_file_name"].endswith("sem_seg_val/000004.png")


def test_loading_keeps_the_metadata(registered):
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
