"""The model class that FiftyOne applies to its samples, without its database."""

from pathlib import Path

import numpy as np
import pytest

from mask2former import Predictor
from mask2former.formats.images import read_image
from mask2former.results.segments import segments_of
from tests.predict.job.tiny import config

pytest.importorskip("fiftyone", reason="FiftyOne is not installed")

from fiftyone.core.models import Model

from mask2former.integrations.fiftyone import Mask2FormerModel


def test_detections_are_the_segments(predictor: Predictor, files: Path) -> None:
    model, image = Mask2FormerModel(predictor, 0.0), read_image(files / "street.jpg")
    assert isinstance(model, Model) and model.media_type == "image"
    found = model.predict(image)
    expected = segments_of(predictor(image), predictor.metadata)
    assert set(found) == {"instances", "segments"}
    for field, kind in (("instances", "instance"), ("segments", "panoptic")):
        detections = found[field].detections
        assert len(detections) == len(expected[kind]) > 0
        for detection, segment in zip(detections, expected[kind]):
            assert (detection.label, detection.confidence) == (segment.name, segment.score)
            x, y, w, h = np.array(detection.bounding_box) * (64, 48, 64, 48)
            mask = np.zeros((48, 64), bool)
            mask[round(y) : round(y + h), round(x) : round(x + w)] = detection.mask
            assert np.array_equal(mask, segment.mask)


def test_batches_and_thresholds(predictor: Predictor, files: Path) -> None:
    image = read_image(files / "street.jpg")
    one, other = Mask2FormerModel(predictor, 1.0).predict_all([image, image[:, ::-1].copy()])
    assert one["instances"].detections == [] and one["segments"].detections
    assert other["segments"].detections


def test_one_kind_alone_has_no_name(files: Path) -> None:
    from tests.predict.job.tiny import PANOPTIC

    cfg = config(PANOPTIC, "MODEL.MASK_FORMER.TEST.INSTANCE_ON", False)
    model = Mask2FormerModel(Predictor(cfg, files / "model_final.pth", array_format="RGB"))
    assert model.predict(read_image(files / "street.jpg")).detections


def test_bgr_is_refused() -> None:
    with pytest.raises(ValueError, match="array_format"):
        Mask2FormerModel(Predictor(config(), "", array_format="BGR"))


def test_our_json_is_read(results: Path) -> None:
    coco = pytest.importorskip("fiftyone.utils.coco")
    _, classes, _, images, annotations = coco.load_coco_detection_annotations(
        str(results / "truth.json")
    )
    assert images[1]["file_name"] == "street.jpg" and len(annotations[1]) == 1
    mask = annotations[1][0].to_detection((64, 48), classes).mask
    assert mask.shape == (20, 40) and mask.all()
