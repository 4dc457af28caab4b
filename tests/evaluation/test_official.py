"""The official scripts of Cityscapes and LVIS on fake layouts: ground truth scores 100."""

import json
import os

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from mask2former.config import get_config
from mask2former.errors import UserError
from mask2former.evaluation.build import build_evaluator
from mask2former.formats.rle import encode_masks

THINGS = ["person", "car"]


@pytest.fixture
def labels():
    return pytest.importorskip("cityscapesscripts.helpers.labels")


@pytest.fixture
def scene(tmp_path, labels):
    """Ground truth of one image: road and sky, a person and two cars."""
    ids = np.full((64, 128), labels.name2label["road"].id, np.uint16)
    ids[:20] = labels.name2label["sky"].id
    semantic = ids.astype(np.uint8)
    masks = []
    for k, (name, columns) in enumerate([("person", 10), ("car", 40), ("car", 80)]):
        box = np.s_[25:60, columns : columns + 30]
        semantic[box] = labels.name2label[name].id
        ids[box] = labels.name2label[name].id * 1000 + k
        masks.append(ids == labels.name2label[name].id * 1000 + k)
    folder = tmp_path / "gtFine" / "val" / "city"
    folder.mkdir(parents=True)
    stem = "city_000000_000000"
    Image.fromarray(semantic).save(folder / f"{stem}_gtFine_labelIds.png")
    Image.fromarray(ids).save(folder / f"{stem}_gtFine_instanceIds.png")
    image = {"file_name": f"{stem}_leftImg8bit.png", "image_id": stem}
    return tmp_path / "gtFine" / "val", image, semantic, np.stack(masks)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_cityscapes_instances(scene, register, dtype):
    gt_dir, image, _, masks = scene
    name = register(evaluator_type="cityscapes_instance", gt_dir=str(gt_dir), thing_classes=THINGS)
    instances = Instances(masks.shape[1:], pred_masks=torch.from_numpy(masks).to(dtype))
    instances.pred_classes, instances.scores = torch.tensor([0, 1, 1]), torch.ones(3)
    evaluator = build_evaluator(get_config(), name)
    evaluator.reset()
    evaluator.process([image], [{"instances": instances}])
    assert evaluator.evaluate()["segm"] == pytest.approx({"AP": 100, "AP50": 100})


def test_cityscapes_semantic(scene, register, labels):
    gt_dir, image, semantic, _ = scene
    name = register(evaluator_type="cityscapes_sem_seg", gt_dir=str(gt_dir))
    scores = torch.zeros(19, *semantic.shape)
    for train_id, label in labels.trainId2label.items():
        if not label.ignoreInEval:
            scores[train_id] = torch.from_numpy(semantic == label.id)
    evaluator = build_evaluator(get_config(), name)
    evaluator.reset()
    evaluator.process([image], [{"sem_seg": scores}])
    assert evaluator.evaluate()["sem_seg"]["IoU"] == pytest.approx(100)


def test_lvis(tmp_path, register):
    pytest.importorskip("lvis")
    mask = np.zeros((1, 40, 50), bool)
    mask[0, 5:30, 10:40] = True
    annotation = {
        "id": 1,
        "image_id": 7,
        "category_id": 3,
        "segmentation": encode_masks(mask)[0],
        "bbox": [10, 5, 30, 25],
        "area": 750,
    }
    image = {"id": 7, "height": 40, "width": 50}
    gt = {
        "images": [{**image, "neg_category_ids": [], "not_exhaustive_category_ids": []}],
        "categories": [{"id": 3, "name": "cat", "frequency": "r"}],
        "annotations": [annotation],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(gt))
    name = register(
        evaluator_type="lvis",
        json_file=str(tmp_path / "lvis.json"),
        thing_dataset_id_to_contiguous_id={3: 0},
    )
    instances = Instances((40, 50), pred_masks=torch.from_numpy(mask))
    instances.pred_boxes = Boxes(torch.tensor([[10.0, 5, 40, 30]]))
    instances.pred_classes, instances.scores = torch.tensor([0]), torch.ones(1)
    evaluator = build_evaluator(get_config(), name)
    evaluator.reset()
    evaluator.process([{"image_id": 7}], [{"instances": instances}])
    scores = evaluator.evaluate()
    for task in ("bbox", "segm"):
        assert scores[task]["AP"] == scores[task]["APr"] == pytest.approx(100)


def score_cityscapes(kind, gt_dir, image, register, shape=(64, 128)):
    name = register(evaluator_type=kind, gt_dir=str(gt_dir), thing_classes=THINGS)
    evaluator = build_evaluator(get_config(), name)
    evaluator.reset()
    instances = Instances(shape, pred_masks=torch.ones(1, *shape, dtype=torch.bool))
    instances.pred_classes, instances.scores = torch.tensor([0]), torch.ones(1)
    evaluator.process([image], [{"instances": instances, "sem_seg": torch.rand(19, *shape)}])
    return evaluator.evaluate()


def test_sound_ground_truth_is_checked_once_and_again_where_it_changes(
    scene, register, monkeypatch
):
    gt_dir, *_ = scene
    name = register(evaluator_type="cityscapes_instance", gt_dir=str(gt_dir), thing_classes=THINGS)
    evaluator = build_evaluator(get_config(), name)
    read = []
    monkeypatch.setattr("mask2former.evaluation.official.read_labels", read.append)
    for _ in range(2):
        evaluator.reset()
    (path,) = gt_dir.glob("*/*_instanceIds.png")
    assert read == [str(path)]
    os.utime(path, ns=(0, 1))
    evaluator.reset()
    assert read == [str(path)] * 2


@pytest.mark.parametrize("kind", ["cityscapes_instance", "cityscapes_sem_seg"])
def test_damaged_ground_truth_of_cityscapes_is_named(scene, register, kind):
    gt_dir, image, *_ = scene
    (path,) = gt_dir.glob("*/*_instanceIds.png")
    content = path.read_bytes()
    path.write_bytes(content[:200])
    with pytest.raises(UserError, match=r"Cannot read .*_instanceIds.png: damaged or truncated"):
        score_cityscapes(kind, gt_dir, image, register)
    Image.fromarray(np.eye(64, 128, dtype=np.uint8)[..., None] * np.uint8([1, 2, 3])).save(path)
    with pytest.raises(UserError, match=r"_instanceIds.png"):
        score_cityscapes(kind, gt_dir, image, register)
    Image.fromarray(np.full((64, 128), 65000, np.uint16)).save(path)
    if kind == "cityscapes_instance":  # the other reads these for their ids alone
        with pytest.raises(UserError, match=r"official script cannot score it by .*gtFine/val"):
            score_cityscapes(kind, gt_dir, image, register)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no CITY/\*_gtFine_instanceIds.png; unpack"):
        score_cityscapes(kind, gt_dir, image, register)


def test_official_script_of_cityscapes_does_not_end_the_process(scene, register):
    gt_dir, image, *_ = scene
    with pytest.raises(UserError, match=r"Image widths of .* are not equal"):
        score_cityscapes("cityscapes_sem_seg", gt_dir, image, register, shape=(64, 100))
    with pytest.raises(UserError, match=r"Found no prediction for ground truth .*labelIds.png"):
        other = {"file_name": "other_leftImg8bit.png"}
        score_cityscapes("cityscapes_sem_seg", gt_dir, other, register)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"images": 3}', '{"images": [], "annotations": [{"id": 1}]}']
)
def test_damaged_json_of_lvis_is_named(tmp_path, register, text):
    pytest.importorskip("lvis")
    path = tmp_path / "lvis.json"
    path.write_text(text)
    name = register(evaluator_type="lvis", json_file=str(path))
    with pytest.raises(UserError, match=r"lvis.json"):
        build_evaluator(get_config(), name)
