"""One order of classes for datasets of all tasks but instances: by hand, loaders and scores."""

import itertools
import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.data import build_mapper, build_test_loader, build_train_loader, register_custom
from mask2former.data.agreement.class_order import match_classes
from mask2former.evaluation import InstanceSegEvaluator, PanopticEvaluator, SemSegEvaluator
from tests.data.agreement.cat_dog_sky import (
    H,
    W,
    config,
    instances,
    panoptic,
    photo,
    place_of,
    score,
    sem_seg,
    targets,
)


@pytest.fixture(autouse=True)
def _own_catalogs(empty_catalogs) -> None:
    """No name is taken when a test begins."""


ORDER = ["dog", "cat", "sky"]  # of t: by id, things first


@pytest.mark.parametrize("with_map", [False, True])
def test_panoptic(tmp_path: Path, with_map: bool) -> None:
    """In u and v ids and label maps have other numbers: cat 0, dog 1, sky 2 by id."""
    t = panoptic(tmp_path, "t", {"sky": 1, "dog": 2, "cat": 5}, {"dog": 0, "cat": 1, "sky": 2})
    numbers = {"cat": 0, "dog": 1, "sky": 2} if with_map else None
    others = [panoptic(tmp_path, n, {"cat": 1, "dog": 7, "sky": 8}, numbers) for n in "uv"]
    cfg = config(t, *others, train=("t", "u"), test=("v",), kind="panoptic")
    register_custom(cfg)
    assert {
        "NAMES": ORDER, "THING_IDS": [0, 1], "COLORS": MetadataCatalog.get("t").stuff_colors
    } == cfg.MODEL.CLASSES  # fmt: skip
    metadata = MetadataCatalog.get("v")
    assert (metadata.stuff_classes, metadata.thing_classes) == (ORDER, ORDER[:2])
    assert metadata.stuff_dataset_id_to_contiguous_id == {1: 1, 7: 0, 8: 2}
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 1, 7: 0}
    assert metadata.sem_seg_labels == [1, 0, 2]
    assert targets(cfg) == {((0, "dog"), (1, "cat"), (2, "sky"))}
    assert score(PanopticEvaluator("v"), "v", ORDER)["panoptic_seg"]["PQ"] == 100
    assert score(SemSegEvaluator("v", distributed=False), "v", ORDER)["sem_seg"]["mIoU"] == 100
    scores = score(InstanceSegEvaluator("v", distributed=False), "v", ORDER)
    assert scores["segm"]["AP"] == pytest.approx(100)


def test_the_map_that_a_mapper_gives_has_the_models_numbers(tmp_path: Path) -> None:
    """The semantic map beside panoptic targets, of the first training set and of another."""
    t = panoptic(tmp_path, "t", {"dog": 2, "cat": 5, "sky": 6}, {"dog": 0, "cat": 1, "sky": 2})
    u = panoptic(tmp_path, "u", {"cat": 1, "dog": 7, "sky": 8}, {"cat": 0, "dog": 1, "sky": 255})
    cfg = config(t, u, train=("t", "u"), test=(), kind="panoptic")
    register_custom(cfg)
    maps = [x["sem_seg"][0, ::2].tolist() for (x,) in itertools.islice(build_train_loader(cfg), 12)]
    assert [1, 0, 2] in maps and [1, 0, 255] in maps and all(m[:2] == [1, 0] for m in maps)


def test_things_and_stuff_have_to_agree(tmp_path: Path) -> None:
    t = panoptic(tmp_path, "t", {"cat": 1, "dog": 2, "sky": 3})
    v = panoptic(tmp_path, "v", {"cat": 1, "dog": 2, "sky": 3}, things=("cat",))
    with pytest.raises(ValueError, match="dog: things in one of v and t, and stuff in the other"):
        register_custom(config(t, v, train=("t",), test=("v",), kind="panoptic"))


def test_a_model_of_things_is_scored_on_panoptic_data(tmp_path: Path) -> None:
    t = instances(tmp_path, "t", {"dog": 1, "cat": 2}, "cat", "dog")
    v = panoptic(tmp_path, "v", {"sky": 1, "cat": 2, "dog": 3})
    register_custom(config(t, v, train=("t",), test=("v",)))
    scores = score(InstanceSegEvaluator("v", distributed=False), "v", ["dog", "cat"])
    assert scores["segm"]["AP"] == pytest.approx(100)


def test_things_with_the_numbers_of_a_panoptic_dataset_are_counted_alone(tmp_path: Path) -> None:
    """As published, things keep their place among all classes: here cat 1 and dog 2."""
    cfg = config(instances(tmp_path, "t", {"cat": 1, "dog": 2}), train=("t",), test=("theirs",))
    DatasetCatalog.register("theirs", list)
    MetadataCatalog.get("theirs").set(
        thing_classes=["cat", "dog"], stuff_classes=["sky", "cat", "dog"], json_file="x",
        thing_dataset_id_to_contiguous_id={7: 1, 9: 2},
    )  # fmt: skip
    register_custom(cfg)
    ids = MetadataCatalog.get("theirs").thing_dataset_id_to_contiguous_id
    assert ids == {7: 0, 9: 1}


SEMANTIC = [
    ({"cat": 0, "dog": 1, "sky": 2}, ["cat", "dog", "sky"], {}),
    ({"sky": 0, "cat": 1, "dog": 2}, ["sky", "cat", "dog"], {}),
    ({"dog": 7, "sky": 0, "cat": 255}, {"7": "dog", "0": "sky", "255": "cat"}, {"ignore_label": 9}),
]


def test_things_that_records_count_themselves_stay_so() -> None:
    """As those of Cityscapes' instances: names of things and stuff, and no table of ids."""
    for name in ("one", "two"):
        DatasetCatalog.register(name, lambda: [{"file_name": "a.png", "annotations": []}])
        MetadataCatalog.get(name).set(
            evaluator_type="cityscapes_instance",
            thing_classes=["person", "car"],
            stuff_classes=["road", "person", "sky", "car"],
        )
    cfg = config(train=("one",), test=("two",))
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    classes = match_classes(cfg)
    assert classes is not None and classes.names == ("person", "car")
    assert MetadataCatalog.get("two").thing_classes == ["person", "car"]


def test_labels_that_a_mapping_lacks_are_ignored(tmp_path: Path) -> None:
    """Also where it has 0, 1, ..., and in another order; of a list they are an error."""
    numbers = {"cat": 0, "dog": 1, "sky": 77}
    a = sem_seg(tmp_path, "a", numbers, {"0": "cat", "1": "dog"})
    b = sem_seg(tmp_path, "b", numbers, {"1": "dog", "0": "cat"})
    c = sem_seg(tmp_path, "c", numbers, ["cat", "dog"])
    cfg = config(a, b, c, train=("a", "b"), test=("b", "c"), kind="semantic")
    register_custom(cfg)
    assert targets(cfg) == {((0, "cat"), (1, "dog"))}
    for name in "ab":
        scores = score(SemSegEvaluator(name, distributed=False), name, ["cat", "dog"])
        assert scores["sem_seg"]["mIoU"] == 100
    with pytest.raises(ValueError, match="has the labels 77, which are no class from 0 to 1"):
        score(SemSegEvaluator("c", distributed=False), "c", ["cat", "dog"])
    cfg.DATASETS.TRAIN = ("c",)
    with pytest.raises(ValueError, match="has the labels 77, which are no class"):
        targets(cfg)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_label_maps_with_other_numbers_give_the_same_targets(tmp_path: Path, first: int) -> None:
    """Whichever form trains first, the others follow its order."""
    entries = [sem_seg(tmp_path, f"s{i}", n, c, **more) for i, (n, c, more) in enumerate(SEMANTIC)]
    names = [f"s{i}" for i in range(3)]
    names.insert(0, names.pop(first))
    cfg = config(*entries, train=tuple(names), test=tuple(names), kind="semantic")
    register_custom(cfg)
    order = [["cat", "dog", "sky"], ["sky", "cat", "dog"], ["dog", "sky", "cat"]][first]
    assert order == cfg.MODEL.CLASSES.NAMES
    assert targets(cfg) == {tuple(enumerate(order))}
    for name in names:
        scores = score(SemSegEvaluator(name, distributed=False), name, order)["sem_seg"]
        assert scores["mIoU"] == 100 == scores["IoU-sky"]


def test_ignored_pixels_of_each_dataset_stay_so(tmp_path: Path) -> None:
    a = sem_seg(tmp_path, "a", {"cat": 0, "dog": 1, "sky": 255}, ["cat", "dog"])
    b = sem_seg(tmp_path, "b", {"cat": 0, "dog": 1, "sky": 9}, ["cat", "dog"], ignore_label=9)
    cfg = config(a, b, train=("a", "b"), test=(), kind="semantic")
    register_custom(cfg)
    assert targets(cfg) == {((0, "cat"), (1, "dog"))}
    maps = [x["sem_seg"][0, ::2].tolist() for (x,) in itertools.islice(build_train_loader(cfg), 9)]
    assert maps == [[0, 1, 255]] * 9


@pytest.mark.parametrize("kind", ["instance", "panoptic", "semantic"])
def test_the_truth_of_given_masks(tmp_path: Path, kind: str) -> None:
    """Through the test loader of MaskClassifier, for a test set with other numbers."""
    if kind == "instance":
        t = instances(tmp_path, "t", {"cat": 1, "dog": 2})
        v = instances(tmp_path, "v", {"dog": 1, "cat": 2}, "cat", "dog")
    elif kind == "panoptic":
        t, v = (panoptic(tmp_path, n, dict(zip(c, (1, 2, 3)))) for n, c in
                (("t", ("cat", "dog", "sky")), ("v", ("dog", "cat", "sky"))))  # fmt: skip
    else:
        t, v = (sem_seg(tmp_path, n, *SEMANTIC[i][:2]) for n, i in (("t", 0), ("v", 1)))
    cfg = config(t, v, train=("t",), test=("v",), kind=kind)
    cfg.MODEL.META_ARCHITECTURE = "MaskClassifier"
    register_custom(cfg)
    ((x,),) = build_test_loader(cfg, "v", build_mapper(cfg, is_train=False))
    found = zip(x["mask_labels"].tolist(), x["masks"].numpy())
    expected = {"cat": 0, "dog": 1} | ({} if kind == "instance" else {"sky": 2})
    assert {place_of(mask): k for k, mask in found} == expected


def test_videos(tmp_path: Path) -> None:
    def entry(name: str, ids: dict[str, int]) -> dict[str, str]:
        track = {"id": 1, "video_id": 1, "category_id": ids["dog"], "iscrowd": 0}
        track |= {"bboxes": [[2, 0, 2, 4]], "areas": [8], "segmentations": [[[2, 0, 4, 0, 4, 4]]]}
        video = {"id": 1, "height": H, "width": W, "length": 1, "file_names": ["a.png"]}
        content = {"videos": [video], "annotations": [track]}
        content["categories"] = [{"id": i, "name": n} for n, i in ids.items()]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        paths = {"image_root": photo(tmp_path), "annotations": str(tmp_path / f"{name}.json")}
        return {"name": name, "task": "video", **paths}

    entries = [entry("t", {"cat": 1, "dog": 2}), entry("v", {"dog": 1, "cat": 2})]
    cfg = config(*entries, train=("t",), test=("v",))
    cfg.MODEL.META_ARCHITECTURE = "VideoMaskFormer"
    register_custom(cfg)
    assert MetadataCatalog.get("v").thing_dataset_id_to_contiguous_id == {1: 1, 2: 0}
    assert DatasetCatalog.get("v")[0]["annotations"][0]["category_id"] == 1
