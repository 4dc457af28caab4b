"""Accuracy on given masks: values worked out by hand, edges, errors."""

import math

import pytest
import torch
from detectron2.data import MetadataCatalog

from mask2former.evaluation.instance.mask_accuracy import MaskAccuracyEvaluator


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> MaskAccuracyEvaluator:
    monkeypatch.setattr(MetadataCatalog, "data", {})
    metadata = MetadataCatalog.get("names")
    metadata.set(
        thing_classes=["cat", "dog"],
        stuff_classes=["cat", "dog", "sky"],
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1},
    )
    evaluator = MaskAccuracyEvaluator("names")
    evaluator.reset()
    return evaluator


def output(*classes: int) -> dict:
    """Logits of which the given class is the largest, of three and no-object."""
    logits = torch.zeros(len(classes), 4)
    logits[torch.arange(len(classes)), list(classes)] = 1
    return {"class_logits": logits}


def labels(*classes: int) -> dict:
    return {"mask_labels": torch.tensor(classes, dtype=torch.int64)}


def test_by_hand(evaluator: MaskAccuracyEvaluator):
    evaluator.process([labels(0, 0, 1), labels(3)], [output(0, 1, 1), output(3)])
    evaluator.process([labels(3, 0)], [output(2, 3)])  # no-object is wrong where there is a cat
    scores = evaluator.evaluate()["mask_classes"]
    assert scores["accuracy"] == pytest.approx(100 * 3 / 6)
    assert scores["accuracy-cat"] == pytest.approx(100 / 3)
    assert scores["accuracy-dog"] == 100
    assert math.isnan(scores["accuracy-sky"])
    assert scores["class accuracy"] == pytest.approx((100 / 3 + 100) / 2)
    assert scores["accuracy-no object"] == 50


def test_images_without_masks(evaluator: MaskAccuracyEvaluator):
    evaluator.process([labels(), labels(2)], [output(), output(2)])
    assert evaluator.evaluate()["mask_classes"]["accuracy"] == 100


def test_nothing_at_all(evaluator: MaskAccuracyEvaluator):
    scores = evaluator.evaluate()["mask_classes"]
    assert all(math.isnan(score) for score in scores.values())


def test_starts_again(evaluator: MaskAccuracyEvaluator):
    evaluator.process([labels(0)], [output(1)])
    evaluator.reset()
    evaluator.process([labels(1)], [output(1)])
    assert evaluator.evaluate()["mask_classes"]["accuracy"] == 100


@pytest.mark.parametrize(("image", "found"), [({}, output(0)), (labels(0), {"instances": None})])
def test_what_cannot_be_scored(evaluator: MaskAccuracyEvaluator, image: dict, found: dict):
    with pytest.raises(ValueError, match=r"a\.jpg: accuracy needs `mask_labels`.*MaskClassifier"):
        evaluator.process([image | {"file_name": "a.jpg"}], [found])
