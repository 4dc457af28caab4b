"""What evaluators write beside scores: worst images, confusions, curves, by hand and by sums."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Instances

from mask2former.evaluation import InstanceSegEvaluator, PanopticEvaluator, SemSegEvaluator
from mask2former.evaluation.details import WorstImages, instance_f1
from mask2former.evaluation.panoptic.quality import PanopticQuality
from mask2former.evaluation.semantic.counts import SemanticCounts
from mask2former.formats.label_maps import write_panoptic_png
from mask2former.formats.rle import decode, encode_masks

CATEGORIES = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 7, "name": "sky", "isthing": 0}]


def entry(mask, category=3, **more):
    return {"category_id": category, "segmentation": encode_masks(mask[None])[0], **more}


def square(x, side=4):
    mask = np.zeros((8, 30), bool)
    mask[:side, x : x + side] = True
    return mask


def test_the_worst_images_are_kept_and_the_others_not_drawn():
    drawn = []

    def draw(name):
        drawn.append(name)
        return [{"category": name}], []

    parts = [WorstImages(3), WorstImages(3)]
    for i, score in enumerate([0.9, 0.1, 0.5, 0.95, None, 0.3, 0.2]):
        parts[i % 2].offer(score, f"{i}", lambda i=i: draw(f"{i}"))
    parts[0].offer(0.5, "2", lambda: draw("again"))  # a loader that fills up its last batch
    parts[0].offer(0.99, "7", lambda: draw("7"))
    parts[0] += parts[1]
    images = parts[0].worst_first()
    assert [(x["file_name"], x["score"]) for x in images] == [("1", 0.1), ("6", 0.2), ("5", 0.3)]
    assert images[0]["prediction"] == [{"category": "1"}]
    assert "7" not in drawn and len(parts[0].worst_first()) == 3


def test_f1_of_an_image():
    true = [entry(square(0)), entry(square(10)), entry(square(20), category=7)]
    assert instance_f1(true, true) == 1
    # one hit, one of another class, one twice: TP 1, FP 2, FN 2
    found = [entry(square(0), score=0.9), entry(square(0), score=0.8), entry(square(20), score=0.7)]
    assert instance_f1(found, true) == pytest.approx(2 / 6)
    assert instance_f1([], true) == 0
    assert instance_f1(found[:1], []) == 0
    assert instance_f1([], []) is None
    crowd = [entry(square(0)), entry(square(10, side=8), iscrowd=1)]
    inside = [entry(square(0), score=0.9), entry(square(12, side=3), score=0.9)]
    assert instance_f1(inside, crowd) == 1
    assert instance_f1(inside[1:], crowd[1:]) is None  # nothing to find, and nothing wrong


def test_quality_of_one_image_counts_all_categories_together():
    truth = np.kron([[1, 2, 3]], np.ones((4, 4), int))
    guess = truth.copy()
    guess[:1, 4:8] = 1  # 4 of the 16 pixels of segment 2 go to segment 1
    guess[truth == 3] = 0
    segments = [{"id": 1, "category_id": 3}, {"id": 2, "category_id": 7}]
    score = PanopticQuality(CATEGORIES).add_image(
        truth, [*segments, {"id": 3, "category_id": 3}], guess, segments
    )
    assert score == pytest.approx((16 / 20 + 12 / 16) / (2 + 1 / 2))
    empty = np.zeros((2, 2), int)
    assert PanopticQuality(CATEGORIES).add_image(empty, [], empty, []) is None


def test_mean_iou_of_one_image():
    gt, labels = np.array([[0, 0, 1, -1]]), np.array([[0, 1, 1, 2]])
    assert SemanticCounts(4).add(gt, labels) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert SemanticCounts(4).add(np.array([[-1]]), np.array([[1]])) is None


def test_semantic_details(tmp_path, register, monkeypatch):
    from PIL import Image

    maps = [np.array([[0, 0, 1, 255]]), np.array([[1, 1, 1, 1]])]
    records = []
    for i, labels in enumerate(maps):
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"{i}.png")
        gt = str(tmp_path / f"{i}.png")
        records.append({"file_name": f"{i}.jpg", "sem_seg_file_name": gt})
    name = register(records, stuff_classes=["sky", "sea"], ignore_label=255)
    evaluator = SemSegEvaluator(name, output_dir=str(tmp_path / "out"))
    evaluator.reset()
    outputs = [{"sem_seg": torch.tensor(m)} for m in ([[0, 1, 1, 0]], [[1, 1, 1, 1]])]
    evaluator.process([{"file_name": f"{i}.jpg"} for i in range(2)], outputs)
    evaluator.evaluate()
    details = json.loads((tmp_path / "out" / "sem_seg_details.json").read_text())
    assert details["classes"] == ["sky", "sea"]
    assert details["confusion"] == [[1, 1, 0], [0, 5, 0]]
    assert details["colours"] == {"sky": [0, 114, 189], "sea": [217, 83, 25]}  # those of the demo
    worst = details["worst"][0]
    assert (worst["file_name"], worst["score"]) == ("0.jpg", 0.5)
    assert [e["category"] for e in worst["truth"]] == ["sky", "sea"]
    assert decode(worst["prediction"][1]["segmentation"]).tolist() == [[0, 1, 1, 0]]


def test_panoptic_details(tmp_path, register):
    truth = np.kron([[1, 2]], np.ones((4, 4), int))
    segments = [
        {"id": 1, "category_id": 3, "iscrowd": 0},
        {"id": 2, "category_id": 7, "iscrowd": 0},
    ]
    write_panoptic_png(tmp_path / "gt" / "a.png", truth)
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": segments}
    gt = {"images": [], "categories": CATEGORIES, "annotations": [annotation]}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    name = register(
        panoptic_json=str(tmp_path / "gt.json"),
        panoptic_root=str(tmp_path / "gt"),
        thing_dataset_id_to_contiguous_id={3: 0},
        stuff_dataset_id_to_contiguous_id={3: 0, 7: 1},
        stuff_classes=["cat", "sky"],
        stuff_colors=[[1, 2, 3], [200, 100, 0]],
    )
    evaluator = PanopticEvaluator(name, tmp_path / "out")
    evaluator.reset()
    half = np.where(np.arange(8) < 6, 1, 2)[None].repeat(4, 0)
    found = [
        {"id": 1, "category_id": 0, "isthing": True},
        {"id": 2, "category_id": 1, "isthing": False},
    ]
    evaluator.process(
        [{"image_id": 1, "file_name": "/photos/a.jpg"}],
        [{"panoptic_seg": (torch.from_numpy(half), found)}],
    )
    scores = evaluator.evaluate()["panoptic_seg"]
    details = json.loads((tmp_path / "out" / "panoptic_seg_details.json").read_text())
    means = [details["per_class"][c]["PQ"] for c in ("cat", "sky")]
    assert np.mean(means) == pytest.approx(scores["PQ"], abs=1e-3)
    assert details["colours"] == {"cat": [1, 2, 3], "sky": [200, 100, 0]}
    (image,) = details["worst"]
    assert image["file_name"] == "/photos/a.jpg"
    assert [(e["category"], e["isthing"]) for e in image["truth"]] == [
        ("cat", True),
        ("sky", False),
    ]
    assert (decode(image["prediction"][0]["segmentation"]) == (half == 1)).all()


def test_the_area_under_the_mean_curve_is_ap(tmp_path, register):
    rng = np.random.default_rng(0)
    annotations, inputs, outputs = [], [], []
    for image in range(4):
        masks = np.stack([square(x) for x in (0, 10, 20)])
        labels = rng.integers(0, 2, 3)
        for mask, label in zip(masks, labels.tolist()):
            truth = entry(mask, [3, 7][label], id=len(annotations) + 1, image_id=image)
            annotations.append(truth | {"iscrowd": 0, "area": 16, "bbox": [0, 0, 4, 4]})
        instances = Instances((8, 30))
        instances.pred_masks = torch.from_numpy(np.roll(masks, image % 3, axis=2))
        instances.scores = torch.from_numpy(0.6 + 0.4 * rng.random(3))
        instances.pred_classes = torch.from_numpy(labels)
        inputs.append({"image_id": image, "file_name": f"{image}.jpg"})
        outputs.append({"instances": instances})
    images = [{"id": i, "height": 8, "width": 30} for i in range(4)]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    name = register(
        json_file=str(tmp_path / "gt.json"),
        thing_classes=["cat", "sky"],
        thing_dataset_id_to_contiguous_id={3: 0, 7: 1},
    )
    evaluator = InstanceSegEvaluator(name, ("segm",), output_dir=str(tmp_path / "out"))
    evaluator.reset()
    evaluator.process(inputs, outputs)
    scores = evaluator.evaluate()["segm"]
    details = json.loads((tmp_path / "out" / "segm_details.json").read_text())
    for key, metric in (("mean", "AP"), ("0.50", "AP50"), ("0.75", "AP75")):
        assert 100 * np.mean(details["curves"][key]) == pytest.approx(scores[metric], abs=0.01)
    assert 0 < scores["AP"] < 100
    names = [image["file_name"] for image in details["worst"]]
    assert len(names) == 4 and names[-1] in ("0.jpg", "3.jpg")  # those that were found as they are
