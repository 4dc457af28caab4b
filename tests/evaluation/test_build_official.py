"""The official scripts of Cityscapes and LVIS on fake layouts: ground truth scores 100."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from mask2former.config import get_config
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
