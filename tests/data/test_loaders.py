"""Loaders over detectron2's, and the checks of a dataset that come before them."""
# ruff: noqa: NPY002 (the workers draw from NumPy's global generator)

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.projects.deeplab import add_deeplab_config
from PIL import Image

from mask2former import add_maskformer2_config, add_maskformer2_video_config
from mask2former.data import build_test_loader, build_train_loader
from mask2former.data.loaders import take_over_classes
from mask2former.data.sampling import mix_clips

SQUARE = [[2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]]


@pytest.fixture
def records(tmp_path: Path, empty_catalogs: None) -> list[dict[str, Any]]:
    """Four images registered as "squares" with classes 0 and 1; the last has no object."""
    records = []
    for i in range(4):
        name = str(tmp_path / f"{i}.png")
        Image.fromarray(np.full((20, 30, 3), i, np.uint8)).save(name)
        annotation = {"id": i, "category_id": i % 2, "segmentation": SQUARE, "iscrowd": 0}
        record = {"file_name": name, "image_id": i, "height": 20, "width": 30}
        records.append(record | {"annotations": [annotation] if i < 3 else []})
    DatasetCatalog.register("squares", lambda: records)
    MetadataCatalog.get("squares").thing_classes = ["even", "odd"]
    return records


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    cfg.DATASETS.TRAIN = ("squares",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.INPUT.DATASET_MAPPER_NAME, cfg.INPUT.IMAGE_SIZE = "coco_instance_lsj", 32
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    return cfg


def _images(loader, batches: int) -> list[int]:
    return [x["image_id"] for batch in itertools.islice(loader, batches) for x in batch]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_never_end(cfg: CfgNode, records, workers: int) -> None:
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    loader = iter(build_train_loader(cfg))
    batches = [next(loader) for _ in range(8)]
    assert {len(batch) for batch in batches} == {2}
    assert {x["image_id"] for batch in batches for x in batch} == {0, 1, 2, 3}
    assert all(x["instances"].gt_masks.shape[1:] == (32, 32) for batch in batches for x in batch)


def test_images_without_objects_are_left_out_as_the_config_says(cfg: CfgNode, records) -> None:
    assert set(_images(build_train_loader(cfg), 12)) == {0, 1, 2}


def test_every_worker_draws_numbers_of_its_own(cfg: CfgNode, records) -> None:
    cfg.DATALOADER.NUM_WORKERS = 2
    loader = build_train_loader(cfg, mapper=lambda x: x | {"drawn": np.random.rand()})
    drawn = [x["drawn"] for batch in itertools.islice(loader, 6) for x in batch]
    assert len(set(drawn)) == len(drawn)


def test_testing_gives_every_image_once_in_order(cfg: CfgNode, records) -> None:
    loader = build_test_loader(cfg, "squares")
    assert len(loader) == 4
    assert [len(batch) for batch in loader] == [1, 1, 1, 1]
    assert _images(loader, 9) == [0, 1, 2, 3]
    assert "instances" not in next(iter(loader))[0]


def test_a_mapper_of_ones_own_is_used(cfg: CfgNode, records) -> None:
    batch = next(iter(build_test_loader(cfg, "squares", mapper=lambda x: x["image_id"])))
    assert batch == [0]


def test_datasets_of_the_same_classes_train_together(cfg: CfgNode, records) -> None:
    DatasetCatalog.register("others", lambda: [records[0] | {"image_id": 77}])
    MetadataCatalog.get("others").thing_classes = ["even", "odd"]
    cfg.DATASETS.TRAIN = ("squares", "others")
    assert set(_images(build_train_loader(cfg), 20)) == {0, 1, 2, 77}


@pytest.mark.parametrize("known_before", [True, False])
def test_classes_in_another_order_are_mapped_by_name(cfg: CfgNode, records, known_before) -> None:
    """The loader of "others" counts odd as 0, and may name its classes only while it loads."""

    def load() -> list[dict[str, Any]]:
        MetadataCatalog.get("others").thing_classes = ["odd", "even"]
        return [dict(records[0], image_id=77), dict(records[1], image_id=78)]

    DatasetCatalog.register("others", load)
    if known_before:
        MetadataCatalog.get("others").thing_classes = ["odd", "even"]
    cfg.DATASETS.TRAIN = ("squares", "others")
    batches = itertools.islice(build_train_loader(cfg, mapper=lambda x: x), 20)
    classes = {x["image_id"]: x["annotations"][0]["category_id"] for b in batches for x in b}
    assert classes == {0: 0, 1: 1, 2: 0, 77: 1, 78: 0}


def test_an_order_known_too_late_for_evaluation_is_an_error(cfg: CfgNode, records) -> None:
    def load() -> list[dict[str, Any]]:
        MetadataCatalog.get("others").thing_classes = ["odd", "even"]
        return records

    DatasetCatalog.register("others", load)
    cfg.DATASETS.TEST = ("others",)
    with pytest.raises(ValueError, match="others has its classes in another order, which is known"):
        build_test_loader(cfg, "others")


def test_images_and_videos_become_clips_for_the_video_model(cfg: CfgNode, records) -> None:
    names = [record["file_name"] for record in records]
    track = {"id": 1, "category_id": 0, "segmentations": [SQUARE] * 4}
    video = {"file_names": names, "video_id": 5, "height": 20, "width": 30, "annotations": [track]}
    DatasetCatalog.register("clips", lambda: [video])
    MetadataCatalog.get("clips").thing_classes = ["odd", "car"]
    add_maskformer2_video_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = "VideoMaskFormer", ("clips", "squares")
    cfg.INPUT.PSEUDO_CLIP.RATIO, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = 0.5, (20,), 20
    loader = build_train_loader(cfg)
    clips = [clip for batch in itertools.islice(loader, 12) for clip in batch]
    # Of the squares, only image 1 has a class of the videos.
    assert {clip["video_id"] for clip in clips} == {5, 1}
    assert all(len(clip["image"]) == 2 for clip in clips)
    cfg.INPUT.PSEUDO_CLIP.RATIO = 1.0
    batches = itertools.islice(build_train_loader(cfg), 6)
    assert {clip["video_id"] for batch in batches for clip in batch} == {1}
    (clip,) = next(iter(build_test_loader(cfg, "clips")))
    assert len(clip["image"]) == 4


# Errors


@pytest.mark.parametrize("build", [build_train_loader, lambda c: build_test_loader(c, "squares")])
def test_another_number_of_classes_is_an_error_with_both(cfg: CfgNode, records, build) -> None:
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 80
    with pytest.raises(ValueError, match="NUM_CLASSES is 80, but squares has 2 classes"):
        build(cfg)


def test_an_unknown_category_is_named_before_training_starts(cfg: CfgNode, records) -> None:
    records[1]["annotations"][0]["category_id"] = 2
    with pytest.raises(ValueError, match=r"1\.png: annotation 1 has class 2; .* allows 0 to 1"):
        build_train_loader(cfg)


def test_a_set_without_any_object_says_how_to_go_on(cfg: CfgNode, records) -> None:
    for record in records:
        record["annotations"] = []
    with pytest.raises(ValueError, match="FILTER_EMPTY_ANNOTATIONS False"):
        build_train_loader(cfg)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["even", "cow"], "others has other classes than squares: only in others: cow; only in "),
        (["even"], "others has other classes than squares: only in squares: odd"),
        (None, "the classes of others have no names in its metadata"),
    ],
)
def test_datasets_of_other_classes_do_not_train_together(
    cfg: CfgNode, records, classes, message
) -> None:
    DatasetCatalog.register("others", lambda: records)
    if classes:
        MetadataCatalog.get("others").thing_classes = classes
    cfg.DATASETS.TRAIN = ("squares", "others")
    with pytest.raises(ValueError, match=message):
        build_train_loader(cfg)


def test_no_training_set_is_an_error(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match=r"DATASETS\.TRAIN is empty"):
        build_train_loader(cfg)


# Videos and images in one training set


def _video_records(count: int) -> list[dict]:
    return [{"file_names": ["a"], "annotations": []} for _ in range(count)]


def _image_records(count: int) -> list[dict]:
    return [{"file_name": "a", "annotations": []} for _ in range(count)]


@pytest.mark.parametrize(("videos", "images", "ratio"), [(5, 50, 0.5), (50, 5, 0.2), (7, 7, 0.9)])
def test_images_have_the_fraction_that_was_asked_for(
    videos: int, images: int, ratio: float
) -> None:
    records, factors = mix_clips(_video_records(videos) + _image_records(images), ratio)
    assert len(records) == videos + images
    drawn = list(itertools.islice(RepeatFactorTrainingSampler(factors), 6000))
    assert sum(i >= videos for i in drawn) / 6000 == pytest.approx(ratio, abs=0.03)
    assert set(drawn) == set(range(videos + images))


@pytest.mark.parametrize("ratio", [-1, 0.5])
def test_one_kind_alone_is_drawn_as_usual(ratio: float) -> None:
    for records in (_video_records(3), _image_records(3)):
        assert mix_clips(records, ratio) == (records, None)


def test_minus_1_takes_both_as_they_are() -> None:
    records = _video_records(2) + _image_records(3)
    assert mix_clips(records, -1) == (records, None)


def test_0_and_1_leave_one_kind_out() -> None:
    records = _video_records(2) + _image_records(3)
    assert mix_clips(records, 0) == (_video_records(2), None)
    assert mix_clips(records, 1) == (_image_records(3), None)


def test_another_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match=r"RATIO: expected 0 to 1, or -1, got 1\.5"):
        mix_clips(_video_records(1), 1.5)


def test_classes_are_matched_by_name_and_others_left_out(empty_catalogs) -> None:
    MetadataCatalog.get("clips").thing_classes = ["dog", "car"]
    MetadataCatalog.get("photos").thing_classes = ["car", "cup", "dog"]
    clips = [{"file_names": ["a"], "annotations": [{"category_id": 1}]}]
    photos = [
        {"file_name": "b", "annotations": [{"category_id": i} for i in (0, 1, 2)]},
        {"file_name": "c", "annotations": [{"category_id": 1}]},
    ]
    joined = take_over_classes(["clips", "photos"], [clips, photos])
    expected = {"file_name": "b", "annotations": [{"category_id": 1}, {"category_id": 0}]}
    assert joined == [*clips, expected]
    assert photos[0]["annotations"][0] == {"category_id": 0}  # untouched


def test_equal_classes_join_records_as_they_are(empty_catalogs) -> None:
    for name in ("clips", "photos"):
        MetadataCatalog.get(name).thing_classes = ["dog"]
    assert take_over_classes(["clips", "photos"], [_video_records(1), _image_records(2)]) == (
        _video_records(1) + _image_records(2)
    )


def test_datasets_without_a_common_class_are_refused(empty_catalogs) -> None:
    MetadataCatalog.get("clips").thing_classes = ["dog"]
    MetadataCatalog.get("photos").thing_classes = ["cup"]
    with pytest.raises(ValueError, match="photos has no class of clips, whose classes are dog"):
        take_over_classes(["clips", "photos"], [_video_records(1), _image_records(1)])
