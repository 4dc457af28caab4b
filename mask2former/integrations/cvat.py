"""A function of CVAT for automatic annotation: names and masks of the objects in an image.

Contract: CVAT's SDK, `cvat_sdk.auto_annotation` (the protocol DetectionFunction).
"""

import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..errors import MissingPackageError
from ..predict import Predictor
from ..predict.configs import predict_config
from ..results.classes import class_name
from ..results.segments import Segment, segments_of

try:
    import cvat_sdk.auto_annotation as cvataa
    from cvat_sdk.masks import encode_mask
except ModuleNotFoundError as error:
    raise MissingPackageError("CVAT needs its SDK: pip install cvat-sdk cvat-cli") from error

_SCORE = 0.5  # least score where CVAT asks for none
_CORNERS = 3  # that a polygon has at least


def create(
    config_file: str | os.PathLike[str], weights: str | os.PathLike[str], device: str | None = None
) -> "Mask2FormerFunction":
    """Return the function of a model; `cvat-cli` calls this with its ``-p`` parameters.

    Args:
        config_file, weights: of the model; it gives panoptic segments or instances.
        device: such as "cpu"; None for the config's, or the CPU where there is no CUDA.

    Raises:
        UserError, OSError: the model cannot be used.
    """
    cfg = predict_config(config_file, ["MODEL.WEIGHTS", os.fspath(weights)])
    return Mask2FormerFunction(Predictor(cfg, device=device))


class Mask2FormerFunction:
    """Annotate images with the instances of a model, or where it gives none, its segments.

    Args:
        predictor: of the model.
    """

    def __init__(self, predictor: Predictor):
        self._predictor = predictor
        labels = range(predictor.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
        kinds = (False, True)  # stuff and things, whose numbers differ in some sets
        names = [class_name(predictor.metadata, label, kind) for kind in kinds for label in labels]
        self._ids = {name: number for number, name in enumerate(dict.fromkeys(names))}

    @property
    def spec(self) -> Any:
        """The classes of the model, which CVAT compares with those of a task by name."""
        labels = [cvataa.label_spec(name, number) for name, number in self._ids.items()]
        return cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Return the shapes of an image: masks, or polygons where CVAT asks for these."""
        prediction = self._predictor(image)
        found = segments_of(prediction, self._predictor.metadata)
        score = _SCORE if context.conf_threshold is None else context.conf_threshold
        segments = found.get("instance", found.get("panoptic", found.get("semantic", [])))
        return [
            shape
            for segment in segments
            if segment.score is None or segment.score >= score
            for shape in self._shapes(segment, context.conv_mask_to_poly)
        ]

    def _shapes(self, segment: Segment, as_polygons: bool) -> Iterator[Any]:
        label = self._ids[segment.name]
        if not as_polygons:
            yield cvataa.mask(label, encode_mask(segment.mask))
            return
        # CVAT's polygons have no holes.
        lines, _ = cv2.findContours(
            segment.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        for line in lines:
            if len(line) >= _CORNERS:
                yield cvataa.polygon(label, line.reshape(-1).astype(float).tolist())
