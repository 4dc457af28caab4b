"""Scores and boxes that are no numbers: refused by entry, in files and in memory, and no hits."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from mask2former.evaluation import coco_average_precision, evaluate_ytvis
from mask2former.evaluation.common import DatasetIds, check_instances, check_scores
from mask2former.evaluation.instance.mask_accuracy import MaskAccuracyEvaluator
from mask2former.evaluation.panoptic.quality import PanopticQuality
from mask2former.evaluation.video.evaluator import YTVISEvaluator

FULL = {"size": [2, 2], "counts": "04"}  # all four pixels
NO_NUMBERS = [math.nan, math.inf, -math.inf, None, "0.5", [0.5], True]
no_numbers = pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
broken = pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])


def _coco() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotation = {"id": 7, "image_id": 3, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 2, 2]}
    gt = {
        "images": [{"id": 3, "height": 2, "width": 2}],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [{**annotation, "area": 4, "segmentation": FULL}],
    }
    result = {"image_id": 3, "category_id": 1, "score": 0.5, "bbox": [0, 0, 2, 2]}
    return gt, [{**result, "segmentation": FULL} for _ in range(3)]


@no_numbers
@pytest.mark.parametrize("iou_type", ["bbox", "segm", "boundary"])
def test_scores_in_files_of_instances(value, iou_type: str) -> None:
    gt, results = _coco()
    assert coco_average_precision(gt, results, iou_type)["AP"] == pytest.approx(100)
    results[2]["score"] = value
    with pytest.raises(ValueError, match="results: entry 2: score: expected a finite number, got"):
        coco_average_precision(gt, results, iou_type)


@pytest.mark.parametrize("value", [*NO_NUMBERS, "0022", [0, 0, 2]], ids=str)
def test_boxes_in_files_of_instances(value) -> None:
    gt, results = _coco()
    for box in (value, [0, 0, value, 2]):
        results[1]["bbox"] = box
        with pytest.raises(ValueError, match="results: entry 1: bbox: expected .*, got"):
            coco_average_precision(gt, results, "bbox")


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("value", [None, "x", [1], {}, math.nan], ids=str)
def test_ids_in_files_of_instances(key: str, value) -> None:
    gt, results = _coco()
    results[0][key] = value
    with pytest.raises(ValueError, match="results: "):
        coco_average_precision(gt, results)


@no_numbers
@pytest.mark.parametrize("key", ["score", "areas"])
def test_files_of_videos(key: str, value) -> None:
    gt = {
        "videos": [{"id": 1, "height": 2, "width": 2, "length": 1}],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "segmentations": [FULL]}],
    }
    result = {"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": [FULL]}
    assert evaluate_ytvis(gt, [result])["AP"] == pytest.approx(100)
    if key == "areas" and value is None:
        return  # in a frame that does not show the object
    wrong = result | ({"areas": [value]} if key == "areas" else {"score": value})
    with pytest.raises(ValueError, match=f"results: entry 1: {key}: expected a finite number, got"):
        evaluate_ytvis(gt, [result, wrong])


@pytest.mark.parametrize("key", ["id", "category_id"])
@pytest.mark.parametrize("value", [math.nan, None, "1", [1], 1.5], ids=str)
def test_panoptic_segments(key: str, value) -> None:
    quality = PanopticQuality([{"id": 1, "isthing": 1}])
    good, ids = {"id": 5, "category_id": 1}, np.full((2, 2), 5)
    with pytest.raises(ValueError, match=f"prediction: segment number 0: {key}: expected a whole"):
        quality.add_image(ids, [good], ids, [good | {key: value}])


@broken
@pytest.mark.parametrize("key", ["scores", "pred_boxes"])
def test_instances_in_memory(value: float, key: str) -> None:
    instances = Instances((2, 2), scores=torch.ones(3), pred_boxes=Boxes(torch.ones(3, 4)))
    check_instances(instances, "image 8")
    check_instances(instances[:0], "image 8")
    if key == "scores":
        instances.scores[1] = value
    else:
        instances.pred_boxes.tensor[1, 2] = value
    with pytest.raises(ValueError, match=f"image 8: {key} of instance 1: expected finite numbers"):
        check_instances(instances, "image 8")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_semantic_scores_in_memory(value: float) -> None:
    scores = torch.zeros(3, 2, 2)
    check_scores(scores, scores.argmax(0), "a.jpg")
    scores[1, 0, 1] = value
    with pytest.raises(ValueError, match=r"a\.jpg: sem_seg has scores that are no finite numbers"):
        check_scores(scores, scores.argmax(0), "a.jpg")


@broken
def test_videos_in_memory(value: float) -> None:
    evaluator = YTVISEvaluator.__new__(YTVISEvaluator)
    evaluator._dataset_ids = DatasetIds(None, "", "thing")
    evaluator.reset()
    masks = [torch.ones(1, 2, 2, dtype=torch.bool)] * 2
    output = {"pred_scores": [0.5, value], "pred_labels": [0, 0], "pred_masks": masks}
    with pytest.raises(ValueError, match=r"video 4: pred_scores\[1\]: expected a finite number"):
        evaluator.process([{"video_id": 4}], output)


def test_classes_of_masks_in_memory() -> None:
    evaluator = MaskAccuracyEvaluator("nothing", distributed=False)
    evaluator.reset()
    image = {"file_name": "a.jpg", "mask_labels": torch.tensor([0])}
    with pytest.raises(ValueError, match=r"a\.jpg: class_logits: expected finite numbers"):
        evaluator.process([image], [{"class_logits": torch.full((1, 3), math.nan)}])
