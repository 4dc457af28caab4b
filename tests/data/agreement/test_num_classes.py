"""How many classes a config has to have for a dataset: by hand, and errors with both numbers."""

import pytest
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from mask2former.config import get_config
from mask2former.data.agreement.num_classes import (
    check_classes,
    check_num_classes,
    class_names,
    datasets_in_use,
)

THINGS, ALL = ["cat", "dog"], ["cat", "dog", "sky"]


@pytest.fixture
def names(empty_catalogs: None) -> None:
    MetadataCatalog.get("mixed").set(thing_classes=THINGS, stuff_classes=ALL)
    MetadataCatalog.get("things").set(thing_classes=THINGS)
    MetadataCatalog.get("stuff").set(stuff_classes=ALL)


def config(architecture: str, mapper: str = "mask_former_semantic", number: int = 3) -> CfgNode:
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = architecture, number
    cfg.INPUT.DATASET_MAPPER_NAME = mapper
    return cfg


@pytest.mark.parametrize(
    ("architecture", "mapper", "expected"),
    [
        ("MaskFormer", "mask_former_semantic", (ALL, THINGS, ALL)),
        ("SemanticSegmentor", "mask_former_semantic", (ALL, THINGS, ALL)),
        ("MaskFormer", "coco_panoptic_lsj", (ALL, THINGS, ALL)),
        ("MaskFormer", "mask_former_instance", (THINGS, THINGS, [])),
        ("MaskFormer", "coco_instance_lsj", (THINGS, THINGS, [])),
        ("VideoMaskFormer", "mask_former_semantic", (THINGS, THINGS, [])),
    ],
)
def test_classes_that_a_model_tells_apart(names, architecture, mapper, expected) -> None:
    cfg = config(architecture, mapper)
    assert tuple(class_names(cfg, name) for name in ("mixed", "things", "stuff")) == expected


def test_another_number_is_an_error_with_both(names) -> None:
    check_num_classes(config("MaskFormer"), ["mixed", "stuff", "without metadata"])
    expected = r"is 3, but things has 2 classes \(cat, dog\); set it to 2, .* to -1 for the number"
    with pytest.raises(ValueError, match=expected):
        check_num_classes(config("MaskFormer"), ["mixed", "things"])


def test_models_that_count_otherwise_are_left_alone(names) -> None:
    check_num_classes(config("PanopticFPN"), ["things"])
    with pytest.raises(ValueError, match="NUM_CLASSES is 3, but things"):
        check_num_classes(config("SomebodysMaskFormer"), ["things"])


def test_datasets_that_share_the_models_classes() -> None:
    cfg = config("MaskFormer")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("a", "b"), ("b", "c")
    assert datasets_in_use(cfg) == ["a", "b", "c"]
    cfg.MODEL.META_ARCHITECTURE = "VideoMaskFormer"  # maps the classes of b to those of a
    cfg.DATASETS.TEST = ("c",)
    assert datasets_in_use(cfg) == ["a", "c"]


@pytest.mark.parametrize("category", [-1, 3])
def test_classes_that_the_model_lacks_are_named(category: int) -> None:
    check_classes([0, 1, 2], 3, str)
    with pytest.raises(ValueError, match=rf"no\. 1 has class {category}; .* allows 0 to 2"):
        check_classes([2, category, 0], 3, "no. {}".format)
