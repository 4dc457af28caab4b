"""Semantic evaluator: values by hand, detectron2 as oracle, the written file, errors."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.evaluation import DatasetEvaluators
from detectron2.evaluation import SemSegEvaluator as Detectron2Evaluator
from PIL import Image

from mask2former.evaluation.common import takes_labels
from mask2former.evaluation.instance.coco_ap import boundary_region, boundary_width
from mask2former.evaluation.panoptic.evaluator import PanopticEvaluator
from mask2former.evaluation.semantic.evaluator import SemanticCounts, SemSegEvaluator

NAMES = ["wall", "tree", "car", "boat"]


def test_by_hand():
    counts = SemanticCounts(4)
    gt = np.array([[0, 0, 0, 1], [1, 1, -1, -1]])
    guess = np.array([[0, 0, 1, 1], [1, 2, 0, 3]])
    counts.add(gt, guess)
    scores = counts.summary(NAMES)
    # wall: 2 of 3 found, union 3; tree: 2 of 3, union 4; car: guessed only; boat: nowhere
    assert scores["IoU-wall"] == pytest.approx(100 * 2 / 3)
    assert scores["IoU-tree"] == pytest.approx(50)
    assert np.isnan([scores["IoU-car"], scores["IoU-boat"], scores["ACC-boat"]]).all()
    assert scores["mIoU"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    assert scores["fwIoU"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert scores["mACC"] == scores["pACC"] == pytest.approx(100 * 2 / 3)
    counts.add(np.array([[3, 3]]), np.array([[3, -1]]))  # a pixel without a guess is wrong
    assert counts.summary(NAMES)["IoU-boat"] == pytest.approx(50)


def test_all_ignored_is_nan():
    counts = SemanticCounts(2)
    counts.add(np.array([[-1]]), np.array([[1]]))
    assert np.isnan(list(counts.summary(["a", "b"]).values())).all()


@pytest.fixture
def scene(tmp_path, register):
    """5 label maps with ignored pixels, and noisy scores for them."""
    rng = np.random.default_rng(0)
    records, inputs, outputs, maps = [], [], [], []
    for i in range(5):
        gt = np.kron(rng.integers(0, 3, (3, 4)), np.ones((10, 10), int))
        gt[rng.random(gt.shape) < 0.1] = 255
        gt_file = str(tmp_path / f"{i}.png")
        Image.fromarray(gt.astype(np.uint8)).save(gt_file)
        records.append({"file_name": f"{i}.jpg", "sem_seg_file_name": gt_file})
        inputs.append({"file_name": f"{i}.jpg"})
        scores = torch.from_numpy(rng.random((4, *gt.shape)))
        scores[:3] += 0.8 * torch.from_numpy(np.stack([gt == k for k in range(3)]))
        outputs.append({"sem_seg": scores})
        maps.append(gt)
    name = register(
        records,
        stuff_classes=NAMES,
        ignore_label=255,
        stuff_dataset_id_to_contiguous_id={10 + k: k for k in range(4)},
    )
    return name, inputs, outputs, maps


def run(evaluator, inputs, outputs):
    evaluator.reset()
    evaluator.process(inputs[:2], outputs[:2])
    evaluator.process(inputs[2:], outputs[2:])
    return evaluator.evaluate()["sem_seg"]


def test_same_numbers_as_detectron2(scene):
    name, inputs, outputs, _ = scene
    expected = run(Detectron2Evaluator(name), inputs, outputs)
    scores = run(SemSegEvaluator(name), inputs, outputs)
    assert list(scores) == list(expected)
    assert scores == pytest.approx(expected, nan_ok=True)
    assert 10 < scores["mIoU"] < 90


def test_perfect_prediction(scene):
    name, inputs, _, maps = scene
    outputs = [
        {"sem_seg": torch.from_numpy(np.stack([m == k for k in range(4)]).astype(float))}
        for m in maps
    ]
    scores = run(SemSegEvaluator(name, boundary_iou=True), inputs, outputs)
    for metric in ("mIoU", "fwIoU", "mACC", "pACC", "mBoundaryIoU"):
        assert scores[metric] == 100, metric


def test_labels_score_as_their_scores_do(scene, tmp_path):
    name, inputs, outputs, _ = scene
    labels = [{"sem_seg": output["sem_seg"].argmax(0).int()} for output in outputs]
    folders = [tmp_path / "scores", tmp_path / "labels"]
    first = run(SemSegEvaluator(name, output_dir=folders[0]), inputs, outputs)
    second = run(SemSegEvaluator(name, output_dir=folders[1]), inputs, labels)
    assert second == pytest.approx(first, nan_ok=True)
    files = [(folder / "sem_seg_predictions.json").read_text() for folder in folders]
    assert files[0] == files[1]


def test_who_takes_labels():
    class Changed(SemSegEvaluator):
        def process(self, inputs, outputs):
            super().process(inputs, outputs)

    class Named(SemSegEvaluator):
        pass

    def made(kind):
        return kind.__new__(kind)

    assert takes_labels(made(SemSegEvaluator)) and takes_labels(made(Named))
    assert not takes_labels(made(Changed)) and not takes_labels(made(Detectron2Evaluator))
    both = [made(SemSegEvaluator), made(PanopticEvaluator)]
    assert takes_labels(DatasetEvaluators(both))
    assert not takes_labels(DatasetEvaluators([*both, made(Detectron2Evaluator)]))
    both[0].process = print
    assert not takes_labels(both[0])


def test_boundary_iou_sums_over_images(scene):
    name, inputs, outputs, maps = scene
    evaluator = SemSegEvaluator(name, boundary_iou=True, dilation_ratio=0.05)
    scores = run(evaluator, inputs, outputs)
    both = either = 0
    for gt, output in zip(maps, outputs):
        width = boundary_width(*gt.shape, 0.05)
        assert width == 2 or width == 3
        guess = np.where(gt == 255, 255, output["sem_seg"].argmax(0).numpy())
        a, b = boundary_region(gt == 1, width), boundary_region(guess == 1, width)
        both, either = both + (a & b).sum(), either + (a | b).sum()
    assert scores["BoundaryIoU-tree"] == pytest.approx(100 * both / either)


def test_file_of_predictions(scene, tmp_path):
    name, inputs, outputs, _ = scene
    run(SemSegEvaluator(name, output_dir=tmp_path / "out"), inputs, outputs)
    entries = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
    for image, output in zip(inputs, outputs):
        painted = np.full((30, 40), -1)
        for entry in entries:
            if entry["file_name"] == image["file_name"]:
                painted[mask_util.decode(entry["segmentation"]) == 1] = entry["category_id"] - 10
        np.testing.assert_array_equal(painted, output["sem_seg"].argmax(0))


def test_errors(scene):
    name, inputs, outputs, _ = scene
    evaluator = SemSegEvaluator(name)
    evaluator.reset()
    scores = outputs[0]["sem_seg"]
    cases = [
        ({"panoptic_seg": None}, r"got \['panoptic_seg'\]; set .*SEMANTIC_ON"),
        ({"sem_seg": scores[:3]}, r"0.jpg: expected scores \(4, H, W\), .* got \(3, 30, 40\)"),
        ({"sem_seg": torch.full((30, 40), 4)}, "0.jpg: sem_seg has class 4, the dataset has 4 cl"),
        ({"sem_seg": torch.full((30, 40), -1)}, "0.jpg: sem_seg has scores that are no finite"),
        ({"sem_seg": scores[:, :20]}, "0.jpg: size: the ground truth has 30 x 40 .* 20 x 40"),
    ]
    for output, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluator.process(inputs[:1], [output])
    with pytest.raises(ValueError, match="other.jpg is not an image of"):
        evaluator.process([{"file_name": "other.jpg"}], outputs[:1])


def test_interrupted_runs_can_start_again(scene, tmp_path):
    name, inputs, outputs, _ = scene
    evaluator = SemSegEvaluator(name, output_dir=tmp_path / "out")
    evaluator.reset()
    evaluator.process(inputs, outputs)
    left = evaluator._stream
    first = run(evaluator, inputs, outputs)
    assert left._file.closed
    entries = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
    assert len({e["file_name"] for e in entries}) == 5
    assert len(entries) == sum(len(o["sem_seg"].argmax(0).unique()) for o in outputs)
    assert first == pytest.approx(run(SemSegEvaluator(name), inputs, outputs), nan_ok=True)
