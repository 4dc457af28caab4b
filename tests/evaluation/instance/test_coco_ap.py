"""COCO AP and boundaries: published answers, other libraries as oracles, values by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mask2former.evaluation.instance.coco_ap import (
    boundary_iou,
    boundary_region,
    boundary_width,
    coco_average_precision,
)
from mask2former.formats.rle import encode_masks


@settings(max_examples=40)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(1, 4))
def test_pixels_with_background_nearby(mask, width):
    padded = np.pad(mask, width)  # outside the image is background
    expected = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        expected[y, x] = not padded[y : y + 2 * width + 1, x : x + 2 * width + 1].all()
    np.testing.assert_array_equal(boundary_region(mask, width), expected)


def test_mask_is_not_changed():
    mask = np.ones((5, 5), bool)
    assert boundary_region(mask, 1).sum() == 16
    assert mask.all()


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(480, 640, 16), (6, 8, 1), (1, 1, 1), (30, 40, 1)]
)
def test_width_is_two_percent_of_the_diagonal(height, width, expected):
    assert boundary_width(height, width) == expected
    assert boundary_width(30, 40, 0.5) == 25


PUBLISHED = {
    "AP": 0.320, "AP50": 0.562, "AP75": 0.299, "APs": 0.387, "APm": 0.310, "APl": 0.327,
    "AR1": 0.268, "AR10": 0.415, "AR100": 0.417, "ARs": 0.469, "ARm": 0.377, "ARl": 0.381,
}  # fmt: skip


@pytest.fixture(scope="module")
def published(shared):
    folder = shared / "data" / "eval" / "coco"
    names = ("instances_val2014_100.json", "instances_val2014_fakesegm100_results.json")
    return [json.loads((folder / name).read_text()) for name in names]


def test_published_answer(published):
    scores = coco_average_precision(*published, fast=False)
    for name, score in PUBLISHED.items():
        assert round(scores[name] / 100, 3) == score, name
    assert list(scores)[:12] == list(PUBLISHED)
    assert sum(name.startswith("AP-") for name in scores) == 80


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_faster_coco_eval_agrees(published, iou_type):
    pytest.importorskip("faster_coco_eval")
    results = [{**r, "bbox": [i % 50, 3, 40, 50]} for i, r in enumerate(published[1])]
    slow = coco_average_precision(published[0], results, iou_type, fast=False)
    fast = coco_average_precision(published[0], results, iou_type, fast=True)
    assert fast == pytest.approx(slow, abs=1e-9, nan_ok=True)


def test_boundary_ap_of_faster_coco_eval_agrees(published):
    faster = pytest.importorskip("faster_coco_eval")
    gt, results = published
    few = {image["id"] for image in gt["images"][:20]}
    part = {k: [e for e in gt[k] if e["image_id"] in few] for k in ("annotations",)}
    part |= {"images": gt["images"][:20], "categories": gt["categories"]}
    results = [r for r in results if r["image_id"] in few]
    scores = coco_average_precision(part, results, "boundary")
    view = faster.COCO(part, use_deepcopy=True)
    other = faster.COCOeval_faster(
        view, view.loadRes(results), "boundary", print_function=lambda *args: None
    )
    other.run()
    assert list(scores.values())[:12] == pytest.approx([100 * s for s in other.stats])
    assert scores["AP"] > 10


def small(num_images=1):
    """One object of 4 x 4 in each image of 8 x 8."""
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    rle = encode_masks(mask[None])[0]
    gt = {
        "images": [{"id": i, "height": 8, "width": 8} for i in range(num_images)],
        "categories": [{"id": 3, "name": "box"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "segmentation": rle, "bbox": [2, 2, 4, 4]}
            for i in range(num_images)
        ],
    }
    results = [{**a, "score": 0.5} for a in gt["annotations"]]
    return gt, results


@pytest.mark.parametrize("iou_type", ["segm", "bbox", "boundary"])
def test_ground_truth_as_result_even_with_ids_from_zero(iou_type):
    gt, results = small(3)
    scores = coco_average_precision(gt, results, iou_type, fast=False)
    assert scores["AP"] == scores["AP-box"] == pytest.approx(100)
    assert scores["APs"] == pytest.approx(100)
    assert math.isnan(scores["APl"])


def test_image_ids_may_be_text():
    gt, results = small(2)
    for entry in [*gt["annotations"], *results]:
        entry["image_id"] = f"photo{entry['image_id']}"
    for image in gt["images"]:
        image["id"] = f"photo{image['id']}"
    assert coco_average_precision(gt, results)["AP"] == pytest.approx(100)


def test_no_result_scores_zero():
    gt, _ = small()
    scores = coco_average_precision(gt, [], fast=False)
    assert scores["AP"] == scores["AR100"] == 0


def test_size_is_that_of_the_mask_not_of_the_box():
    gt, results = small()
    gt["annotations"], results[0]["bbox"] = [], [0, 0, 200, 200]
    gt["annotations"] = [{**results[0], "iscrowd": 0}]
    # A false positive counts among the small ones only if its mask is small.
    wrong = np.zeros((1, 8, 8), bool)
    wrong[0, 0] = True
    results.insert(0, {**results[0], "segmentation": encode_masks(wrong)[0], "score": 0.9})
    scores = coco_average_precision(gt, results, fast=False)
    assert scores["APs"] == pytest.approx(50)


def test_boundary_iou_by_hand():
    masks = np.zeros((2, 10, 10), bool)
    masks[0, 1:9, 1:9] = True  # 64 pixels, of which 28 are its boundary at width 1
    masks[1, 2:9, 1:9] = True  # 56 pixels, 26; both boundaries: 7 + 7 at the sides, 6 below
    entries = [{"segmentation": m, "iscrowd": 0} for m in encode_masks(masks)]
    iou = boundary_iou(entries[1:], entries[:1], dilation_ratio=0.01)
    assert iou[0, 0] == pytest.approx(20 / (28 + 26 - 20))
    crowd = [{**entries[0], "iscrowd": 1}]
    assert boundary_iou(entries[1:], crowd, dilation_ratio=0.01)[0, 0] == pytest.approx(20 / 26)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 7}, "results: image id 7 is not in the ground truth"),
        ({"category_id": 1}, "image 0 has category id 1, which is not in the ground truth"),
        ({"segmentation": {"size": [8, 9], "counts": "P2"}}, r"image 0: RLE size: .*\[8, 9\]"),
    ],
)
def test_errors(change, message):
    gt, results = small()
    with pytest.raises(ValueError, match=message):
        coco_average_precision(gt, [{**results[0], **change}])


def test_errors_of_the_ground_truth():
    gt, results = small()
    with pytest.raises(ValueError, match="expected 'bbox', 'segm' or 'boundary', got 'mask'"):
        coco_average_precision(gt, results, "mask")
    del results[0]["segmentation"]
    with pytest.raises(ValueError, match="results: .*; missing: segmentation, in {'id': 0"):
        coco_average_precision(gt, results)
    gt["images"].append(gt["images"][0] | {"file_name": "other.png"})
    with pytest.raises(ValueError, match="two files have this id: None and other.png"):
        coco_average_precision(gt, [])
