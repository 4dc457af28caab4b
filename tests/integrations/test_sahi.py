"""SAHI over our instances: slices are put where they belong, and whole images are as without it."""

from pathlib import Path

import numpy as np
import pytest

from mask2former import Predictor
from mask2former.errors import UserError
from mask2former.formats.images import read_image
from tests.predict.job.tiny import config

pytest.importorskip("sahi", reason="SAHI is not installed")

from sahi.predict import get_prediction, get_sliced_prediction

from mask2former.integrations.sahi import Mask2FormerDetectionModel


def test_whole_images_are_as_without_it(predictor: Predictor, files: Path) -> None:
    model = Mask2FormerDetectionModel(model=predictor, confidence_threshold=0.0)
    image = read_image(files / "street.jpg")
    found = get_prediction(image, model).object_prediction_list
    expected = predictor(image)["instances"]
    scores = {round(prediction.score.value, 5) for prediction in found}
    assert scores and scores <= {round(score, 5) for score in expected.scores.tolist()}
    names = {prediction.category.name for prediction in found}
    assert names <= set(predictor.metadata.stuff_classes)


def test_slices_are_moved(predictor: Predictor) -> None:
    """A slice of an image has the objects that it has alone, moved to where it is."""
    model = Mask2FormerDetectionModel(model=predictor, confidence_threshold=0.0)
    image = np.random.default_rng(0).integers(0, 256, (96, 64, 3), np.uint8)
    options = {"slice_height": 48, "slice_width": 64, "overlap_height_ratio": 0}
    sliced = get_sliced_prediction(
        image,
        model,
        perform_standard_pred=False,
        postprocess_type="GREEDYNMM",
        postprocess_match_threshold=1.0,
        overlap_width_ratio=0,
        verbose=0,
        **options,
    )
    below = [p.bbox.to_xyxy() for p in sliced.object_prediction_list if p.bbox.miny >= 48]
    alone = get_prediction(image[48:], model).object_prediction_list
    moved = [[x0, y0 + 48, x1, y1 + 48] for x0, y0, x1, y1 in (p.bbox.to_xyxy() for p in alone)]
    assert below and all(box in moved for box in below)


def test_built_from_files(files: Path) -> None:
    model = Mask2FormerDetectionModel(
        config_path=str(files / "config.yaml"),
        model_path=str(files / "model_final.pth"),
        device="cpu",
        image_size=32,
    )
    assert model.model.cfg.INPUT.MIN_SIZE_TEST == 32
    assert model.category_mapping["0"] == model.model.metadata.stuff_classes[0]


def test_what_does_not_fit(predictor: Predictor) -> None:
    bgr = Predictor(config(), "", array_format="BGR")
    with pytest.raises(UserError, match='expected a Predictor of array_format="RGB"'):
        Mask2FormerDetectionModel(model=bgr)
    no_instances = config(
        Path(__file__).parents[2] / "configs/shapes/panoptic/maskformer2_lite0.yaml",
        "MODEL.MASK_FORMER.TEST.INSTANCE_ON",
        False,
    )
    with pytest.raises(UserError, match="SAHI needs instances"):
        Mask2FormerDetectionModel(model=Predictor(no_instances, "", array_format="RGB"))
