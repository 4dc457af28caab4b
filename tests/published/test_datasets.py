"""Class tables and functions of the data modules, as published code calls them."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from mask2former.config import get_config
from mask2former.published import datasets

NAME = "published_test_videos"
CATEGORIES = [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}]


@pytest.fixture
def video(tmp_path):
    """Arguments that register a json file of one video with one object."""
    segmentation = {"size": [2, 2], "counts": [0, 4]}
    track = {"id": 1, "video_id": 3, "category_id": 5, "segmentations": [segmentation]}
    content = {
        "videos": [{"id": 3, "width": 2, "height": 2, "length": 1, "file_names": ["a.jpg"]}],
        "annotations": [track | {"bboxes": [[0, 0, 2, 2]], "areas": [4], "iscrowd": 0}],
        "categories": CATEGORIES,
    }
    (tmp_path / "videos.json").write_text(json.dumps(content))
    Image.new("RGB", (2, 2)).save(tmp_path / "a.jpg")
    yield {"json_file": str(tmp_path / "videos.json"), "image_root": str(tmp_path)}
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_videos_with_metadata_of_ones_own(video):
    metadata = {
        "thing_classes": ["dog", "cat"],
        "thing_dataset_id_to_contiguous_id": {5: 0, 2: 1},
    }
    datasets.register_ytvis_instances(NAME, metadata, **video)
    (record,) = DatasetCatalog.get(NAME)
    assert record["annotations"][0]["category_id"] == 0
    known = MetadataCatalog.get(NAME)
    assert (known.evaluator_type, known.json_file) == ("ytvis", video["json_file"])


def test_videos_whose_classes_the_file_names(video):
    datasets.register_ytvis_instances(NAME, {}, **video)
    (record,) = DatasetCatalog.get(NAME)
    known = MetadataCatalog.get(NAME)
    assert known.thing_classes == ["cat", "dog"]
    assert record["annotations"][0]["category_id"] == 1


@pytest.mark.parametrize("year", [2019, 2021])
def test_metadata_of_ytvis(shared, year):
    facts = json.loads((shared / "reference" / "registry_facts.json").read_text())
    expected = facts["datasets_new"][f"ytvis_{year}_val"]
    found = json.loads(json.dumps(getattr(datasets, f"ytvis_{year}_metadata")()))
    assert found == {key: expected[key] for key in found} and len(found) == 3
    table = getattr(datasets, f"YTVIS_CATEGORIES_{year}")
    assert [c["name"] for c in table if c["isthing"] == 1] == expected["thing_classes"]


def test_class_tables(shared):
    facts = json.loads((shared / "reference" / "registry_facts.json").read_text())["datasets_new"]
    tables = {
        "ade20k_panoptic_val": datasets.ADE20K_150_CATEGORIES,
        "mapillary_vistas_panoptic_val": datasets.MAPILLARY_VISTAS_SEM_SEG_CATEGORIES,
        "coco_2017_test_stuff_10k_sem_seg": datasets.COCO_STUFF_10K_CATEGORIES,
    }
    for name, table in tables.items():
        ids = {str(c["id"]): i for i, c in enumerate(table)}
        assert ids == facts[name]["stuff_dataset_id_to_contiguous_id"]
        assert [c["name"] for c in table] == facts[name]["stuff_classes"]
    panoptic = [c for c in datasets.ADE20K_150_CATEGORIES if c["isthing"]]
    assert [c["color"] for c in panoptic] == facts["ade20k_panoptic_val"]["thing_colors"]
    instance = facts["ade20k_instance_val"]
    assert [c["name"] for c in datasets.ADE_CATEGORIES] == instance["thing_classes"]
    ids = {str(c["id"]): i for i, c in enumerate(datasets.ADE_CATEGORIES)}
    assert ids == instance["thing_dataset_id_to_contiguous_id"]


def test_augmentations_of_large_scale_jitter_pad():
    cfg = get_config()
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE = 32, 0.5, 0.5
    chain = datasets.build_transform_gen(cfg, True)
    assert [type(t) for t in chain] == [T.RandomFlip, T.ResizeScale, T.FixedSizeCrop]
    image = T.AugInput(np.zeros((32, 32, 3), np.uint8))
    T.AugmentationList(chain)(image)
    assert image.image.shape == (32, 32, 3)
    assert (image.image[16:] == 128).all() and (image.image[:16, :16] == 0).all()
    with pytest.raises(ValueError, match="training only"):
        datasets.build_transform_gen(cfg, False)


def test_polygons_by_hand():
    square = [1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]
    masks = datasets.convert_coco_poly_to_mask([[square], [square, [0, 0, 1, 0, 1, 1, 0, 1]]], 4, 5)
    assert masks.shape == (2, 4, 5) and masks.dtype == torch.bool
    assert masks[0].sum() == 4 and masks[0, 1:3, 1:3].all()
    assert masks[1].sum() == 5 and masks[1, 0, 0]
    assert datasets.convert_coco_poly_to_mask([], 4, 5).shape == (0, 4, 5)
