"""One order of classes for all datasets of a config: instances by hand, and whose classes count."""

from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.data import build_test_loader, build_train_loader, register, register_custom
from mask2former.data.agreement.class_order import match_classes
from mask2former.engine import validate
from mask2former.evaluation import InstanceSegEvaluator
from tests.data.agreement.cat_dog_sky import config, instances, score, targets


@pytest.fixture(autouse=True)
def _own_catalogs(empty_catalogs) -> None:
    """No name is taken when a test begins."""


# Instances


def test_a_test_set_with_swapped_ids_is_scored_by_name(tmp_path: Path) -> None:
    train = instances(tmp_path, "t", {"cat": 1, "dog": 2})
    test = instances(tmp_path, "v", {"dog": 1, "cat": 2}, "cat", "dog")
    cfg = config(train, test, train=("t",), test=("v",))
    register_custom(cfg)
    validate(cfg)
    metadata = MetadataCatalog.get("v")
    assert metadata.thing_classes == ["cat", "dog"] == cfg.MODEL.CLASSES.NAMES
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 1, 2: 0}
    own = MetadataCatalog.get("t").thing_colors
    assert metadata.thing_colors == [own[1], own[0]]  # of the places in its file
    scores = score(InstanceSegEvaluator("v", distributed=False), "v", ["cat", "dog"])
    assert scores["segm"]["AP"] == scores["segm"]["AP-cat"] == pytest.approx(100)
    assert (
        score(InstanceSegEvaluator("v", distributed=False), "v", ["dog", "cat"])["segm"]["AP"] < 1
    )
    assert len(build_test_loader(cfg, "v")) == 1


def test_training_sets_are_mapped_by_name(tmp_path: Path) -> None:
    first = instances(tmp_path, "t", {"cat": 1, "dog": 2})
    second = instances(tmp_path, "u", {"dog": 3, "cat": 9}, "cat", "dog")
    cfg = config(first, second, train=("t", "u"), test=("t",))
    register_custom(cfg)
    assert targets(cfg) == {((0, "cat"), (1, "dog"))}


def test_each_config_has_its_order(tmp_path: Path) -> None:
    a = instances(tmp_path, "a", {"cat": 1, "dog": 2})
    b = instances(tmp_path, "b", {"dog": 1, "cat": 2}, "cat", "dog")
    first = config(a, b, train=("a",), test=("b",))
    second = config(a, b, train=("b",), test=("a",))
    register(**b)
    for _ in range(2):
        register_custom(first)
        held = MetadataCatalog.get("b")
        assert [MetadataCatalog.get(n).thing_classes for n in "ab"] == [["cat", "dog"]] * 2
        assert targets(first) == {((0, "cat"), (1, "dog"))}
        register_custom(second)
        assert [MetadataCatalog.get(n).thing_classes for n in "ab"] == [["dog", "cat"]] * 2
        assert targets(second) == {((0, "dog"), (1, "cat"))}
        assert held.thing_classes == ["cat", "dog"]  # whoever held it has the order of its model
    assert second.MODEL.CLASSES.NAMES == ["dog", "cat"]


def test_the_config_may_name_the_order(tmp_path: Path) -> None:
    cfg = config(instances(tmp_path, "t", {"cat": 1, "dog": 2}), train=("t",), test=("t",))
    cfg.MODEL.CLASSES.NAMES = ["dog", "cat"]
    register_custom(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2
    assert targets(cfg) == {((0, "dog"), (1, "cat"))}


def test_datasets_of_others_are_matched_too(tmp_path: Path) -> None:
    cfg = config(instances(tmp_path, "t", {"cat": 1, "dog": 2}), train=("t",), test=("theirs",))
    annotations = [{"category_id": k, "segmentation": [[0, 0, 2, 0, 2, 2]]} for k in (0, 1)]
    record = {"file_name": "x.png", "image_id": 1, "annotations": annotations}
    DatasetCatalog.register("theirs", lambda: [record])
    MetadataCatalog.get("theirs").set(thing_classes=["dog", "cat"])
    register_custom(cfg)
    (found,) = DatasetCatalog.get("theirs")
    assert [a["category_id"] for a in found["annotations"]] == [1, 0]
    assert [a["category_id"] for a in annotations] == [0, 1]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"evaluator_type": "lvis"}, "the evaluator lvis counts them so"),
        ({"json_file": "x.json"}, "thing_dataset_id_to_contiguous_id is not known"),
        ({"stuff_classes": ["sky"]}, "things and stuff are counted apart"),
    ],
)
def test_orders_that_cannot_be_changed_are_refused(tmp_path: Path, metadata, message) -> None:
    cfg = config(instances(tmp_path, "t", {"cat": 1, "dog": 2}), train=("t",), test=("theirs",))
    DatasetCatalog.register("theirs", list)
    MetadataCatalog.get("theirs").set(thing_classes=["dog", "cat"], **metadata)
    with pytest.raises(ValueError, match=f"theirs has the wanted classes .* given: {message}; set"):
        register_custom(cfg)


def test_a_dataset_that_is_no_list_cannot_be_given_another_order(tmp_path: Path) -> None:
    cfg = config(instances(tmp_path, "t", {"cat": 1, "dog": 2}), train=("t", "u"), test=())
    DatasetCatalog.register("u", lambda: torch.utils.data.StackDataset([1]))
    MetadataCatalog.get("u").thing_classes = ["dog", "cat"]
    register_custom(cfg)
    with pytest.raises(ValueError, match="u is no list of records"):
        build_train_loader(cfg)


@pytest.mark.parametrize("alone", [False, True])
def test_other_classes_are_refused_with_their_names(tmp_path: Path, alone: bool) -> None:
    """When training is set up, and when a model is evaluated alone, with or without the data."""
    train = instances(tmp_path, "t", {"cat": 1, "dog": 2})
    cfg = config(train, train=("t",), test=("v",))
    register_custom(cfg)
    register(**instances(tmp_path, "v", {"cat": 1, "cow": 2}, "cat", "cat"))
    message = "v has other classes than {}: only in v: cow; only in {}: dog.*in any order"
    with pytest.raises(ValueError, match=message.format("t", "t")):
        validate(cfg, eval_only=alone)
    with pytest.raises(ValueError, match=message.format("t", "t")):
        build_test_loader(cfg, "v")
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop("t")
    message = message.format(*["MODEL.CLASSES.NAMES"] * 2) + r"; NAMES \[\] takes them"
    with pytest.raises(ValueError, match=message):
        validate(cfg, eval_only=True)


def test_names_that_differ_in_capitals_or_spaces_are_told(tmp_path: Path) -> None:
    train = instances(tmp_path, "t", {"cat": 1, "dog": 2})
    test = instances(tmp_path, "v", {"Cat": 1, "dog ": 2}, "Cat", "dog ")
    with pytest.raises(ValueError, match="these differ in capitals or spaces alone"):
        register_custom(config(train, test, train=("t",), test=("v",)))


def test_another_number_of_classes_is_refused_with_the_names(tmp_path: Path) -> None:
    train = instances(tmp_path, "t", {"cat": 1, "dog": 2})
    test = instances(tmp_path, "v", {"cat": 1, "dog": 2, "cow": 3}, "cat", "dog")
    with pytest.raises(ValueError, match=r"is 2, but v has 3 classes \(cat, dog, cow\)"):
        register_custom(config(train, test, train=("t",), test=("v",)))


def test_a_number_of_classes_that_does_not_fit_the_names(tmp_path: Path) -> None:
    cfg = config(instances(tmp_path, "t", {"cat": 1, "dog": 2}), train=("t",), test=("t",))
    cfg.MODEL.CLASSES.NAMES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = ["cat"], 2
    with pytest.raises(ValueError, match="NAMES has 1 names, but .*NUM_CLASSES is 2; NAMES"):
        register_custom(cfg)


# Which classes are the model's


def test_models_that_count_otherwise_have_no_names(tmp_path: Path) -> None:
    cfg = config(instances(tmp_path, "t", {"cat": 1, "dog": 2}), train=("t",), test=("t",))
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    assert match_classes(cfg) is None


def test_custom_datasets_that_are_not_needed_may_be_missing(tmp_path: Path) -> None:
    """Then the classes are those of the config."""
    gone = instances(tmp_path, "t", {"cat": 1, "dog": 2})
    test = instances(tmp_path, "v", {"dog": 1, "cat": 2}, "cat", "dog")
    cfg = config(gone, test, train=("t",), test=("v",))
    register_custom(cfg)
    DatasetCatalog.clear(), MetadataCatalog.clear()
    Path(gone["annotations"]).unlink()
    again = cfg.clone()
    with pytest.raises(FileNotFoundError, match="t.json is missing"):
        register_custom(again)
    register_custom(again, ["v"])
    assert again == cfg
    assert MetadataCatalog.get("v").thing_classes == ["cat", "dog"]
    assert "t" not in DatasetCatalog


def test_custom_datasets_that_are_not_needed_may_have_changed(tmp_path: Path, caplog) -> None:
    """As a demo finds them, whose model was trained before: damaged, or with other classes."""
    entries = [instances(tmp_path, name, {"cat": 1, "dog": 2}) for name in "tv"]
    cfg = config(*entries, train=("t",), test=("v",))
    register_custom(cfg)
    DatasetCatalog.clear(), MetadataCatalog.clear()
    Path(entries[0]["annotations"]).write_text("{")
    instances(tmp_path, "v", {"cat": 1, "cow": 2})
    with caplog.at_level("INFO", "mask2former"):
        register_custom(cfg, [])
    assert cfg.MODEL.CLASSES.NAMES == ["cat", "dog"] and "t" not in DatasetCatalog
    assert "The dataset v is left out, as it is not used" in caplog.text
    with pytest.raises(ValueError, match="v has other classes than"):
        register_custom(cfg, ["v"])
