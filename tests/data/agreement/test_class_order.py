"""One order of classes for all datasets of a config: values by hand, through loaders and scores.

Every dataset has one photo of 4 x 6 pixels: cat in its left third, dog in the middle, sky right.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances
from PIL import Image

from mask2former.config import get_config
from mask2former.data import (
    build_mapper,
    build_test_loader,
    build_train_loader,
    register,
    register_custom,
)
from mask2former.data.agreement.class_order import match_classes
from mask2former.engine import validate
from mask2former.evaluation import InstanceSegEvaluator, PanopticEvaluator, SemSegEvaluator

H, W = 4, 6
AREAS = {"cat": slice(0, 2), "dog": slice(2, 4), "sky": slice(4, 6)}  # columns


@pytest.fixture(autouse=True)
def _own_catalogs(empty_catalogs) -> None:
    """No name is taken when a test begins."""


def photo(root: Path) -> str:
    root.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(root / "a.png")
    return str(root)


def mask_of(name: str) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[:, AREAS[name]] = True
    return mask


def label_map(path: Path, numbers: dict[str, int]) -> None:
    labels = np.zeros((H, W), np.uint8)
    for name, number in numbers.items():
        labels[mask_of(name)] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def instances(root: Path, name: str, ids: dict[str, int], *shown: str) -> dict[str, Any]:
    """An entry for a json with the category ids of the names, and an object of each, or of some."""
    annotations = [
        {"id": i, "image_id": 1, "category_id": ids[shows], "iscrowd": 0, "area": 8.0}
        | {"bbox": [AREAS[place].start, 0, 2, H]}
        | {"segmentation": [np.ravel([[x, y] for x, y in _corners(place)]).tolist()]}
        for i, (place, shows) in enumerate(zip(("cat", "dog"), shown or ids), start=1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": H, "width": W}],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for n, i in ids.items()],
    }
    path = root / f"{name}.json"
    image_root = photo(root / "photos")
    path.write_text(json.dumps(content))
    entry = {"name": name, "task": "instance", "image_root": image_root}
    return entry | {"annotations": str(path)}


def _corners(place: str) -> list[tuple[int, int]]:
    x0, x1 = AREAS[place].start, AREAS[place].stop
    return [(x0, 0), (x1, 0), (x1, H), (x0, H)]


def panoptic(
    root: Path, name: str, ids: dict[str, int], numbers: dict[str, int] | None = None,
    things: tuple[str, ...] = ("cat", "dog"),
) -> dict[str, Any]:  # fmt: skip
    """An entry for a panoptic json with a segment of each; and for a label map with numbers."""
    segments = {n: k for k, n in enumerate(ids, start=1)}
    pngs = np.zeros((H, W, 3), np.uint8)
    for n, k in segments.items():
        pngs[mask_of(n), 0] = k
    folder = root / f"{name}_png"
    folder.mkdir(parents=True)
    Image.fromarray(pngs).save(folder / "a.png")
    infos = [{"id": k, "category_id": ids[n], "iscrowd": 0, "area": 8} for n, k in segments.items()]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": H, "width": W}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": infos}],
        "categories": [{"id": i, "name": n, "isthing": int(n in things)} for n, i in ids.items()],
    }
    path = root / f"{name}.json"
    path.write_text(json.dumps(content))
    entry = {"name": name, "task": "panoptic", "image_root": photo(root / "photos")}
    entry |= {"annotations": str(path), "panoptic_root": str(folder)}
    if numbers:
        label_map(root / f"{name}_labels" / "a.png", numbers)
        entry["sem_seg_root"] = str(root / f"{name}_labels")
    return entry


def sem_seg(root: Path, name: str, numbers: dict[str, int], classes: Any, **more) -> dict[str, Any]:
    label_map(root / name / "a.png", numbers)
    entry = {"name": name, "task": "sem_seg", "image_root": photo(root / "photos")}
    return entry | {"sem_seg_root": str(root / name), "classes": classes, **more}


def config(*entries: dict, train: tuple, test: tuple, kind: str = "instance") -> CfgNode:
    cfg = get_config()
    cfg.DATASETS.CUSTOM = [dict(entry) for entry in entries]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
    cfg.INPUT.DATASET_MAPPER_NAME = f"mask_former_{kind}"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.COLOR_AUG_SSD = (H,), H, False
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.SIZE_DIVISIBILITY = False, -1
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.OBEY_RANDOM_FLIP = "none", True
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 1
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = -1
    return cfg


def targets(cfg: CfgNode) -> set[tuple[tuple[int, str], ...]]:
    """The targets that training gets, one set an image: class, and what lies there."""
    found = set()
    for (x,) in itertools.islice(build_train_loader(cfg), 12):
        objects = x["instances"]
        pairs = zip(objects.gt_classes.tolist(), objects.gt_masks.numpy())
        found.add(tuple(sorted((k, _place(mask)) for k, mask in pairs)))
    return found


def _place(mask: np.ndarray) -> str:
    return next(name for name in AREAS if (mask == mask_of(name)).all())


def prediction(names: list[str]) -> dict[str, Any]:
    """What a perfect model returns whose classes are in this order."""
    shown = [name for name in AREAS if name in names]
    ids = torch.zeros(H, W, dtype=torch.int32)
    objects = Instances((H, W))
    things = [name for name in shown if name != "sky"]
    objects.pred_masks = torch.from_numpy(np.stack([mask_of(name) for name in things]))
    objects.pred_classes = torch.tensor([names.index(name) for name in things])
    objects.scores = torch.ones(len(things))
    scores = torch.zeros(len(names), H, W)
    infos = []
    for i, name in enumerate(shown, start=1):
        ids[torch.from_numpy(mask_of(name))] = i
        scores[names.index(name)][torch.from_numpy(mask_of(name))] = 1
        infos.append({"id": i, "category_id": names.index(name), "isthing": name != "sky"})
    return {"instances": objects, "panoptic_seg": (ids, infos), "sem_seg": scores}


def score(evaluator: Any, name: str, names: list[str]) -> dict[str, Any]:
    (record,) = DatasetCatalog.get(name)
    evaluator.reset()
    evaluator.process([{"image_id": 1, "height": H, "width": W, **record}], [prediction(names)])
    return evaluator.evaluate()


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


# Panoptic and semantic

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
    assert {_place(mask): k for k, mask in found} == expected


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
