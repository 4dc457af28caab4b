"""Ground truth fed back as prediction scores 100 through the evaluators that data sets ask for."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from mask2former.config import get_config
from mask2former.data.datasets import register_all
from mask2former.data.synthetic.images import write_shapes
from mask2former.evaluation import build_evaluator, read_panoptic_png
from mask2former.evaluation.rle import compress
from mask2former.evaluation.semantic_truth import SemanticTruth
from tests.photos import register_photos


@pytest.fixture
def catalogs(monkeypatch):
    """detectron2's catalogs, without any data set until the test is over."""
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})


def config(*flags):
    cfg = get_config()
    for flag in ("PANOPTIC", "INSTANCE", "SEMANTIC"):
        cfg.MODEL.MASK_FORMER.TEST[f"{flag}_ON"] = flag in flags
    return cfg


def panoptic_output(record):
    segment_map = read_panoptic_png(record["pan_seg_file_name"]).astype(np.int32)
    return {"panoptic_seg": (torch.from_numpy(segment_map), record["segments_info"])}


def semantic_output(name, record):
    truth = SemanticTruth(name)
    labels = truth.read(record["file_name"])
    scores = np.stack([labels == k for k in range(len(truth.class_names))])
    return {"sem_seg": torch.from_numpy(scores).float()}


def instance_output(name, image_id):
    """The objects of the json that are no crowds, in contiguous classes."""
    metadata = MetadataCatalog.get(name)
    with open(metadata.json_file) as file:
        gt = json.load(file)
    image = next(i for i in gt["images"] if i["id"] == image_id)
    size = (image["height"], image["width"])
    own = [a for a in gt["annotations"] if a["image_id"] == image_id and not a.get("iscrowd")]
    masks = [mask_util.decode(compress(a["segmentation"], *size)).astype(bool) for a in own]
    ids = metadata.thing_dataset_id_to_contiguous_id
    boxes = np.array([a["bbox"] for a in own], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = Instances(size, pred_boxes=Boxes(torch.from_numpy(boxes)))
    instances.pred_masks = torch.from_numpy(np.array(masks, bool).reshape(-1, *size))
    instances.pred_classes = torch.tensor([ids[a["category_id"]] for a in own], dtype=torch.int64)
    instances.scores = torch.ones(len(own))
    return {"instances": instances}


def run(cfg, name, outputs, folder):
    records = DatasetCatalog.get(name)
    evaluator = build_evaluator(cfg, name, str(folder))
    evaluator.reset()
    for record in records:
        evaluator.process([record], [outputs(record)])
    return evaluator.evaluate()


def test_shapes(tmp_path, catalogs):
    write_shapes(tmp_path, seed=1, train=1, val=6, size=64, workers=1)
    register_all(str(tmp_path))

    def outputs(record):
        name = "shapes_val_panoptic"
        return {
            **panoptic_output(record),
            **semantic_output(name, record),
            **instance_output(name, record["image_id"]),
        }

    everything = config("PANOPTIC", "INSTANCE", "SEMANTIC")
    scores = run(everything, "shapes_val_panoptic", outputs, tmp_path / "out")
    assert scores["panoptic_seg"]["PQ"] == scores["panoptic_seg"]["PQ_th"] == 100
    assert scores["panoptic_seg"]["PQ_st"] == scores["sem_seg"]["mIoU"] == 100
    assert scores["segm"]["AP"] == scores["bbox"]["AP"] == pytest.approx(100)

    name = "shapes_val_sem_seg"
    scores = run(config("SEMANTIC"), name, lambda r: semantic_output(name, r), tmp_path / "out")
    assert scores["sem_seg"]["mIoU"] == 100
    name = "shapes_val_instance"
    scores = run(
        config("INSTANCE"), name, lambda r: instance_output(name, r["image_id"]), tmp_path / "out"
    )
    assert scores["segm"]["AP"] == pytest.approx(100)


def test_real_photos_with_panoptic_annotations(shared, tmp_path, catalogs):
    register_photos(shared, "panoptic")
    scores = run(
        config("PANOPTIC", "SEMANTIC"),
        "photos",
        lambda record: {**panoptic_output(record), **semantic_output("photos", record)},
        tmp_path,
    )
    assert scores["panoptic_seg"]["PQ"] == 100  # though the two photos have crowds
    assert scores["sem_seg"]["mIoU"] == 100  # of label maps that the segments make


def test_real_photos_with_instance_annotations(shared, tmp_path, catalogs):
    register_photos(shared, "instance")
    cfg = config("INSTANCE")
    scores = run(cfg, "photos", lambda r: instance_output("photos", r["image_id"]), tmp_path)
    assert scores["segm"]["AP"] == pytest.approx(100)
    assert scores["bbox"]["AP"] == pytest.approx(100)
