"""Masks that pycocotools would wait for, or draw out of memory that nobody wrote.

In results they are refused; objects of the ground truth that have them are left out.

With runs that do not cover the image, its IoU never returns, and its decoder leaves the rest of the
pixels as they were in memory.
"""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from mask2former.evaluation import coco_average_precision, evaluate_ytvis, semantic_pq

# A thread, since a signal does not end a loop in C.
pytestmark = pytest.mark.timeout(30, method="thread")

GOOD = {"size": [2, 2], "counts": "04"}  # all four pixels
BAD = {
    "too long": ({"size": [2, 2], "counts": "05"}, "2 runs over 5 of 4 pixels"),
    "too short": ({"size": [2, 2], "counts": "03"}, "2 runs over 3 of 4 pixels"),
    "short list": ({"size": [2, 2], "counts": [0, 3]}, "2 runs over 3 of 4 pixels"),
    "short bytes": ({"size": [2, 2], "counts": b"03"}, "2 runs over 3 of 4 pixels"),
    "negative": ({"size": [2, 2], "counts": "0N6"}, "expected runs >= 0"),
    "cut short": ({"size": [2, 2], "counts": "0P"}, "damaged or cut short"),
    "no number": ([[0, 0, 2, 0, float("nan"), 2]], "a coordinate that is no number"),
    "infinite": ([[0, 0, 2, 0, float("inf"), 2]], "a coordinate that is no number"),
    "far outside": ([[0, 0, 2, 0, 4e7, 2]], "far outside of the image"),
    "missing": (None, "expected polygons, an RLE or a bitmap, got none"),
}
bad_masks = pytest.mark.parametrize(("mask", "message"), BAD.values(), ids=BAD)


def _images(truth, result):
    annotation = {"id": 7, "image_id": 3, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 2, 2]}
    gt = {
        "images": [{"id": 3, "height": 2, "width": 2}],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [{**annotation, "area": 4, "segmentation": truth}],
    }
    results = [{"image_id": 3, "category_id": 1, "score": 0.5, "segmentation": result}]
    return gt, results


@bad_masks
@pytest.mark.parametrize("iou_type", ["segm", "boundary"])
@pytest.mark.parametrize("fast", [False, None])
def test_instances(mask, message, iou_type, fast):
    gt, results = _images(mask, GOOD)
    gt["annotations"].append({**gt["annotations"][0], "id": 8, "segmentation": GOOD})
    assert coco_average_precision(gt, results, iou_type, fast=fast)["AP"] == pytest.approx(100)
    gt, results = _images(GOOD, mask)
    with pytest.raises(ValueError, match=f"results: image 3: .*{message}"):
        coco_average_precision(gt, results, iou_type, fast=fast)


@bad_masks
@pytest.mark.parametrize("fast", [False, None])
def test_boxes_are_scored_whatever_the_masks(mask, message, fast):
    gt, results = _images(mask, GOOD)
    results[0]["bbox"] = [0, 0, 2, 2]
    assert coco_average_precision(gt, results, "bbox", fast=fast)["AP"] == pytest.approx(100)


@bad_masks
def test_videos(mask, message):
    video = {"id": 5, "height": 2, "width": 2, "length": 2}
    entry = {"id": 9, "video_id": 5, "category_id": 1, "segmentations": [GOOD, GOOD]}
    gt = {"videos": [video], "categories": [{"id": 1, "name": "box"}], "annotations": [entry]}
    results = [{**entry, "score": 0.5}]
    if mask is None:  # not to be seen in that frame
        return
    results[0]["segmentations"] = [GOOD, mask]
    with pytest.raises(ValueError, match=f"results: entry 0: frame 1: .*{message}"):
        evaluate_ytvis(copy.deepcopy(gt), results)
    # Of the truth such a frame is left out, and an object without any other.
    results[0]["segmentations"] = [GOOD, None]
    entry["segmentations"] = [GOOD, mask]
    assert evaluate_ytvis(gt, results)["AP"] == pytest.approx(100)
    gt["annotations"] = [entry, {**entry, "segmentations": [mask, mask]}]
    assert evaluate_ytvis(gt, results)["AP"] == pytest.approx(100)
    assert evaluate_ytvis(gt, [])["AP"] == 0


@bad_masks
def test_semantic_results(mask, message, tmp_path, register):
    if not isinstance(mask, dict) or isinstance(mask["counts"], bytes):
        return  # json has no bytes, and semantic results no polygons
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    record = {"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "a.png")}
    name = register([record], stuff_classes=["wall"], ignore_label=255)
    entry = {"file_name": "a.jpg", "category_id": 0, "segmentation": mask}
    (tmp_path / "results.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=f"a.jpg: .*{message}"):
        semantic_pq(name, tmp_path / "results.json")
