"""The network runs once, and merging again gives what the model would have given."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mask2former.errors import UserError
from mask2former.formats.images import read_image
from mask2former.predict.page.outputs import ImageSegmenter, Thresholds
from mask2former.predict.page.service import Service, build_predictor
from tests.modeling.mask_classifier.small import save_tiny_sam
from tests.predict.job.tiny import config
from tests.predict.page.conftest import CLASSIFIER

ALL = Thresholds(0.0, 0.0, 0.0, 0.0)


def test_merging_gives_what_the_model_gives(service: Service, photo: Path) -> None:
    image, predictor = read_image(photo), service.predictor
    outputs = service.segmenter.segment(image)
    for panoptic, overlap in ((0.0, 0.0), (0.2, 0.0), (0.0, 0.7)):
        found = service.segmenter.merge(outputs, Thresholds(panoptic, overlap, 0.0, 0.0))
        model = predictor.model
        before = model.object_mask_threshold, model.overlap_threshold
        model.object_mask_threshold, model.overlap_threshold = panoptic, overlap
        with torch.no_grad():
            expected = model([predictor.prepare(image)])[0]
        model.object_mask_threshold, model.overlap_threshold = before
        assert torch.equal(found["panoptic_seg"][0], expected["panoptic_seg"][0])
        assert [{**s, "score": 0} for s in found["panoptic_seg"][1]] == [
            {**s, "score": 0} for s in expected["panoptic_seg"][1]
        ]
        assert all(panoptic < s["score"] <= 1 for s in found["panoptic_seg"][1])
        assert torch.equal(found["instances"].pred_masks, expected["instances"].pred_masks)
        assert torch.equal(found["sem_seg"], expected["sem_seg"].argmax(0).int())


def test_the_model_keeps_its_thresholds_and_does_not_run_again(
    service: Service, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, model = service.segmenter.segment(read_image(photo)), service.predictor.model
    monkeypatch.setattr(model, "extract", None)  # a second run would fail
    service.segmenter.merge(outputs, Thresholds(0.9, 0.9, 0.9, 0.1))
    assert (model.object_mask_threshold, model.overlap_threshold) == (0.0, 0.0)
    assert model.semantic_output == "scores"


def test_thresholds_of_scores_and_of_shares(service: Service, photo: Path) -> None:
    outputs = service.segmenter.segment(read_image(photo))
    scores = service.segmenter.merge(outputs, ALL)["instances"].scores
    between = float(scores.sort().values[-2:].mean())
    kept = service.segmenter.merge(outputs, Thresholds(0, 0, between, 0))["instances"]
    assert len(scores) > 1 and kept.scores.tolist() == [float(scores.max())]
    classes = service.segmenter.merge(outputs, Thresholds(0, 0, 0, 0.5))["sem_seg"]
    assert classes.ndim == 3  # scores of all classes, whose shares are compared


def test_thresholds_out_of_range() -> None:
    for value in (-0.1, 1.1, float("nan"), None, "0.5"):
        with pytest.raises(UserError, match="threshold score: expected a number in 0 to 1"):
            Thresholds(score=value)


def test_too_many_scores(service: Service, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = service.segmenter.segment(read_image(photo))
    monkeypatch.setattr("mask2former.predict.page.outputs._MAX_SCORES", 1000)
    service.segmenter.merge(outputs, ALL)
    with pytest.raises(UserError, match="needs the scores of .* at 40x32 pixels.*scale the image"):
        service.segmenter.merge(outputs, Thresholds(semantic=0.1))


def test_boxes_are_masks_without_sam(naming: Service, photo: Path) -> None:
    image = read_image(photo)
    masks = np.zeros((2, *image.shape[:2]), bool)
    masks[0, 2:11, 3:20], masks[1, 20:32, 0:40] = True, True
    outputs = naming.segmenter.name_masks(image, [], [[3, 2, 20, 10.5], [0, 20, 40, 32]])
    expected = naming.predictor(image, masks=masks)
    assert torch.equal(outputs.class_logits, expected["class_logits"])
    found = naming.segmenter.merge(outputs, ALL)["instances"]
    assert torch.equal(found.pred_masks, expected["instances"].pred_masks)
    assert torch.equal(found.scores, expected["instances"].scores)


def test_points_and_boxes_with_sam(photo: Path, tmp_path: Path) -> None:
    predictor = build_predictor(config(CLASSIFIER), str(save_tiny_sam(tmp_path / "sam")))
    segmenter = ImageSegmenter(predictor)
    outputs = segmenter.name_masks(read_image(photo), [[5, 6]], [[3, 2, 20, 10]])
    assert len(outputs.class_logits) == 2
    masks = segmenter.merge(outputs, ALL)["instances"].pred_masks
    assert masks.shape[1:] == (32, 40)


@pytest.mark.parametrize(
    ("points", "boxes", "message"),
    [
        ([], [], "expected a point or a box, got none"),
        ([[5, 5]], [], "points need SAM: start the page with --sam-weights"),
        ([], [[3, 2, 50, 10]], "does not lie inside the image: the image is 40 wide"),
        ([], [[3, 2, 3, 10]], "has no area"),
        ([], [[3, 2, 9]], "boxes have 4 numbers each"),
        ([5], [], "points have 2 numbers each, got [5]"),
        ([["a", "b"]], [], "points have 2 numbers each, got ['a', 'b']"),
        ([], ["abcd"], "boxes have 4 numbers each"),
        ([], [[None] * 4], "boxes have 4 numbers each"),
    ],
)
def test_prompts_that_do_not_fit(
    naming: Service, photo: Path, points: list, boxes: list, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        naming.segmenter.name_masks(read_image(photo), points, boxes)


@pytest.mark.parametrize(
    ("points", "boxes", "message"),
    [
        ([], [[3, 2, 9, 10]] * 101, "expected 100 points and boxes at most, got 101"),
        ({"x": 1}, [], "expected lists of points and of boxes"),
    ],
)
def test_prompts_of_any_number_do_not_fill_the_memory(
    naming: Service, photo: Path, points: Any, boxes: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        naming.name_masks(photo, points, boxes, Thresholds())
