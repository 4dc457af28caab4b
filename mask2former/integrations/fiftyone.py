"""A model of FiftyOne, for `dataset.apply_model`.

Contract: FiftyOne's `fiftyone.core.models.Model`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import MissingPackageError
from ..formats.rle import bounding_box, encode_masks
from ..predict import Predictor
from ..results.segments import Segment, segments_of

try:
    import fiftyone.core.labels as labels
    from fiftyone.core.models import Model
except ModuleNotFoundError as error:
    raise MissingPackageError("FiftyOne is not installed: pip install fiftyone") from error


class Mask2FormerModel(Model):
    """Label samples with what a model sees: "instances" and "segments", with masks.

    Args:
        predictor: with ``array_format="RGB"``.
        score_threshold: instances of a lower score are left out, in 0..1.
    """

    def __init__(self, predictor: Predictor, score_threshold: float = 0.5):
        if predictor.array_format != "RGB":
            raise ValueError('FiftyOne has images in RGB: expected array_format="RGB"')
        self._predictor = predictor
        self._score_threshold = score_threshold

    @property
    def media_type(self) -> str:
        """FiftyOne's name of what is taken."""
        return "image"

    @property
    def ragged_batches(self) -> bool:
        """Whether images are prepared to several sizes; they are not prepared at all."""
        return False

    @property
    def transforms(self) -> None:
        """What FiftyOne is to do with images first."""
        return None

    @property
    def preprocess(self) -> bool:
        """Whether `transforms` are applied."""
        return False

    @preprocess.setter
    def preprocess(self, value: bool) -> None:
        pass  # FiftyOne sets it around its loaders

    def predict(self, arg: np.ndarray) -> Any:
        """Return the Detections of an image (H, W, 3), uint8, RGB; by kind where there are both."""
        return self._labels(self._predictor(arg))

    def predict_all(self, args: Any) -> list[Any]:
        """Return the same of several images, which pass the model as one batch."""
        return [self._labels(prediction) for prediction in self._predictor(list(args))]

    def _labels(self, prediction: Mapping[str, Any]) -> Any:
        found = segments_of(prediction, self._predictor.metadata)
        names = {"instance": "instances", "panoptic": "segments"}
        by_kind = {names[kind]: self._detections(found[kind]) for kind in names if kind in found}
        return next(iter(by_kind.values())) if len(by_kind) == 1 else by_kind

    def _detections(self, segments: list[Segment]) -> Any:
        kept = [s for s in segments if s.score is None or s.score >= self._score_threshold]
        return labels.Detections(detections=[_detection(segment) for segment in kept])


def _detection(segment: Segment) -> Any:
    """Return a Detection, whose box is in fractions of the image and whose mask fills the box."""
    height, width = segment.mask.shape
    x, y, w, h = map(int, bounding_box(encode_masks(segment.mask[None])[0]))
    box = [x / width, y / height, w / width, h / height]
    mask = segment.mask[y : y + h, x : x + w]
    return labels.Detection(
        label=segment.name, bounding_box=box, mask=mask, confidence=segment.score
    )
