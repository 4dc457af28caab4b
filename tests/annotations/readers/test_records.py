"""Records that functions of others make: checking, training and scoring agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode, Instances
from PIL import Image

from mask2former.annotations import AnnotationError, Findings
from mask2former.annotations.readers.records import call, check_records, records_as_coco
from mask2former.config import get_config
from mask2former.data import build_train_loader
from mask2former.data.check import main as check
from mask2former.data.datasets.registered import read_dataset
from mask2former.evaluation import InstanceSegEvaluator
from tests.annotations.three import COUNT, HEIGHT, WIDTH, square, write_photos


def bitmap(i: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[square(i)] = 1
    return mask


def polygon(i: int) -> list[list[float]]:
    rows, columns = square(i)
    x0, x1, y0, y1 = columns.start, columns.stop, rows.start, rows.stop
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def sound(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "file_name": str(folder / "img" / f"{i}.png"),
            "image_id": i,
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": [
                {
                    "bbox": [5 + 4 * i, 6, 25 + 4 * i, 26],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": i % 2,
                    "segmentation": polygon(i),
                }
            ],
        }
        for i in range(COUNT)
    ]


def obj(**values: Any):
    return _change(lambda records: records[1]["annotations"][0], values)


def record(**values: Any):
    return _change(lambda records: records[1], values)


def _change(choose, values):
    def spoil(records):
        entry = choose(records)
        entry.update(values)
        for key in [key for key, value in values.items() if value is ...]:
            del entry[key]
        return records

    return spoil


TAKEN = {
    "sound": lambda records: records,
    "tuple": tuple,
    "bitmap": obj(segmentation=bitmap(1)),
    "truth": obj(segmentation=bitmap(1).astype(bool)),
    "arrays": obj(segmentation=[np.array(polygon(1)[0])]),
    "no box": obj(bbox=..., bbox_mode=...),
    "no size": record(height=..., width=...),
    "flag as text": obj(iscrowd="0"),
    "flag null": obj(iscrowd=None),
    "number of numpy": obj(category_id=np.int64(1)),
    "whole float": obj(category_id=1.0),
}
REFUSED = {
    "nothing": (lambda records: None, "expected a list of records"),
    "mapping": (lambda records: {"a": 1}, "expected a list of records"),
    "generator": (lambda records: (r for r in records), "expected a list of records"),
    "empty": (lambda records: [], "there is no image"),
    "text": (lambda records: ["a"], "expected a dict, got str"),
    "no file": (record(file_name=...), "file_name: expected a path, got None"),
    "objects null": (record(annotations=None), "annotations: expected a list, got null"),
    "objects of text": (record(annotations=["a"]), "expected a list of dicts"),
    "no category": (obj(category_id=...), "category_id: expected a whole number"),
    "category text": (obj(category_id="1"), "category_id: expected a whole number"),
    "flag unclear": (obj(iscrowd="maybe"), "iscrowd is 'maybe'"),
    "all crowd": (
        lambda records: [r | {"annotations": [r["annotations"][0] | {"iscrowd": 1}]}
                         for r in records],
        "No image of theirs has an object; set DATALOADER.FILTER_EMPTY_ANNOTATIONS False",
    ),
    "fails": (lambda records: records[9], "the function that is registered for it fails: IndexErr"),
}  # fmt: skip


def register(tmp_path: Path, spoil) -> CfgNode:
    write_photos(tmp_path / "img")
    DatasetCatalog.register("theirs", lambda: spoil(sound(tmp_path)))
    MetadataCatalog.get("theirs").set(thing_classes=["cat", "dog"], evaluator_type="coco")
    cfg = get_config()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("theirs",)
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, COUNT
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.INPUT.DATASET_MAPPER_NAME, cfg.INPUT.IMAGE_SIZE = "coco_instance_lsj", WIDTH
    cfg.INPUT.MIN_SCALE = cfg.INPUT.MAX_SCALE = 1.0
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    (tmp_path / "c.yaml").write_text(cfg.dump())
    return cfg


def perfect_score() -> float:
    evaluator = InstanceSegEvaluator("theirs", distributed=False)
    evaluator.reset()
    for i, found in enumerate(read_dataset("theirs").records):
        mask = torch.from_numpy(bitmap(i))[None].bool()
        label = torch.tensor([i % 2])
        result = Instances(
            (HEIGHT, WIDTH), pred_masks=mask, scores=torch.ones(1), pred_classes=label
        )
        evaluator.process([found], [{"instances": result}])
    return evaluator.evaluate()["segm"]["AP"]


@pytest.mark.parametrize("spoil", TAKEN.values(), ids=TAKEN)
def test_what_has_a_clear_meaning_is_taken(spoil, empty_catalogs, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = register(tmp_path, spoil)
    assert check([str(tmp_path / "c.yaml"), "--samples", "0"]) == 0
    batch = next(iter(build_train_loader(cfg)))
    assert {Path(m["file_name"]).name: len(m["instances"]) for m in batch} == {
        f"{i}.png": 1 for i in range(COUNT)
    }
    assert perfect_score() == pytest.approx(100)


@pytest.mark.parametrize(("spoil", "words"), REFUSED.values(), ids=REFUSED)
def test_what_has_none_is_refused(spoil, words, empty_catalogs, tmp_path, capsys) -> None:
    cfg = register(tmp_path, spoil)
    assert check([str(tmp_path / "c.yaml"), "--samples", "0"]) == 1
    report = capsys.readouterr().out
    with pytest.raises(ValueError) as error:
        build_train_loader(cfg)
    assert words in report and words in str(error.value)


def test_a_record_without_objects_among_others_is_an_image_without_any(tmp_path) -> None:
    records = sound(tmp_path)
    del records[1]["annotations"]
    checked = check_records("theirs", records, Findings("theirs"))
    assert [len(r["annotations"]) for r in checked] == [1, 0, 1, 1]
    assert "annotations" not in records[1]


def test_scoring_needs_the_ids_of_images(tmp_path) -> None:
    records = record(image_id=...)(sound(tmp_path))
    with pytest.raises(ValueError, match="record number 1 has no image_id"):
        records_as_coco("theirs", records)
    with pytest.raises(AnnotationError, match="expected a dict"):
        records_as_coco("theirs", ["a"])


def test_errors_that_say_enough_stay_as_they_are() -> None:
    def fails() -> None:
        raise FileNotFoundError("no such file")

    with pytest.raises(FileNotFoundError, match="^no such file$"):
        call("theirs", fails)


@pytest.mark.parametrize(("white", "classes", "code"), [
    (255, ["sky", "cat"], 1), (1, ["sky", "cat"], 0), (1, None, 0),
])  # fmt: skip
def test_label_maps_of_others(white, classes, code, empty_catalogs, tmp_path) -> None:
    cfg = register(tmp_path, list)
    for i in range(COUNT):
        Image.fromarray(white * bitmap(i)).save(tmp_path / f"{i}.png")
    maps = [
        {"file_name": r["file_name"], "sem_seg_file_name": str(tmp_path / f"{i}.png")}
        for i, r in enumerate(sound(tmp_path))
    ]
    DatasetCatalog.remove("theirs")
    MetadataCatalog.remove("theirs")
    DatasetCatalog.register("theirs", lambda: maps)
    if classes:
        MetadataCatalog.get("theirs").set(stuff_classes=classes)
    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"
    (tmp_path / "c.yaml").write_text(cfg.dump())
    assert check([str(tmp_path / "c.yaml"), "--samples", "0"]) == code
    if code:
        with pytest.raises(ValueError, match="nothing but 0"):
            build_train_loader(cfg)
    else:
        assert [len(m["instances"]) for m in next(iter(build_train_loader(cfg)))] == [2] * COUNT


def test_label_maps_beside_instances_have_classes_of_their_own(empty_catalogs, tmp_path) -> None:
    register(tmp_path, list)
    records = sound(tmp_path)
    for i, found in enumerate(records):
        found["sem_seg_file_name"] = str(tmp_path / f"{i}.png")
        Image.fromarray(2 * bitmap(i)).save(found["sem_seg_file_name"])
    DatasetCatalog.remove("theirs")
    DatasetCatalog.register("theirs", lambda: records)
    MetadataCatalog.get("theirs").set(stuff_classes=["sky", "sea", "land"])
    assert check(["theirs", "--samples", "0"]) == 0
