"""An image through the network once, merged again as often as thresholds change."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...config.architecture import meta_architecture
from ...errors import UserError
from ...modeling.mask_classifier import SamPrompts
from ...modeling.mask_classifier.given_masks import AsLogits
from ...modeling.meta_arch.merging import MergingModel
from ...modeling.postprocessing.canvas import Canvas
from ...modeling.postprocessing.switches import switched
from ..image import Predictor
from ..masks import MaskPredictor

_MAX_SCORES = 2**29  # of all classes at all pixels: 2 GB


@dataclass(frozen=True)
class Thresholds:
    """What merging depends on, each in 0..1.

    Attributes:
        panoptic: least class probability of panoptic segments.
        overlap: least fraction of its own mask that a panoptic segment has won.
        score: least score of instances.
        semantic: least fraction of a pixel's best class in a semantic result.

    Raises:
        UserError: a number outside 0 to 1.
    """

    panoptic: float = 0.8
    overlap: float = 0.8
    score: float = 0.5
    semantic: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"threshold {name}: expected a number in 0 to 1, got {value}")


class Outputs(NamedTuple):
    """What the network made of an image, not merged yet.

    Attributes:
        image: (H, W, 3), uint8, RGB.
        class_logits: (Q, K+1).
        mask_logits: (Q, h, w), or given masks in that form.
        canvas: what the masks are resized to.
    """

    image: np.ndarray
    class_logits: Tensor
    mask_logits: Tensor | AsLogits
    canvas: Canvas


class ImageSegmenter:
    """Run the network of a predictor and merge what comes, for one caller at a time.

    Args:
        predictor: with ``array_format="RGB"``, of a model whose queries are merged.
    """

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self._lock = Lock()  # the model has one set of thresholds

    @property
    def can_segment(self) -> bool:
        """Whether images are enough; a model for given masks needs these, too."""
        model = self.predictor.model
        return isinstance(model, MergingModel) and not self.names_masks

    @property
    def names_masks(self) -> bool:
        """Whether the model gives names to masks."""
        return meta_architecture(self.predictor.cfg) == "MaskClassifier"

    @torch.no_grad()
    def segment(self, image: np.ndarray) -> Outputs:
        """Run the network on an image (H, W, 3), uint8, RGB."""
        predictor, model = self.predictor, self.predictor.model
        prepared = predictor.prepare(image)
        with self._lock:
            images = model.preprocess([prepared["image"]])
            found = model.predict(images.tensor)
        (canvas,) = model.canvases([prepared], images)
        return Outputs(image, found["pred_logits"][0], found["pred_masks"][0], canvas)

    @torch.no_grad()
    def name_masks(
        self,
        image: np.ndarray,
        points: Sequence[Sequence[float]],
        boxes: Sequence[Sequence[float]],
    ) -> Outputs:
        """Name what SAM finds at points (x, y) and in boxes (x0, y0, x1, y1), in pixels.

        Without SAM, boxes are masks themselves.

        Raises:
            UserError: there are none, one lies outside of the image, or points come without SAM.
        """
        predictor = self.predictor
        assert isinstance(predictor, MaskPredictor)
        if not points and not boxes:
            raise UserError("expected a point or a box, got none: draw one in the image")
        prompts = SamPrompts(points, boxes)
        prompts.check(image.shape[:2])
        if predictor.sam is None and points:
            raise UserError("points need SAM: start the page with --sam-weights, or draw boxes")
        with self._lock:
            if predictor.sam is None:
                masks = _filled(boxes, image.shape[:2])
                found = predictor(image, masks=masks)
            else:
                found = predictor(image, prompts=prompts)
                masks = found["masks"]
        size = (image.shape[0], image.shape[1])
        canvas, device = Canvas(size, size, size), predictor.model.device
        return Outputs(image, found["class_logits"], AsLogits(masks, device), canvas)

    @torch.no_grad()
    def merge(self, outputs: Outputs, thresholds: Thresholds) -> dict[str, Any]:
        """Return what the model returns for the image, with these thresholds.

        Raises:
            UserError: a semantic threshold for more classes and pixels than fit in memory.
        """
        num_classes = outputs.class_logits.shape[-1] - 1
        height, width = outputs.canvas.output
        if thresholds.semantic > 0 and num_classes * height * width > _MAX_SCORES:
            raise UserError(
                f"a semantic threshold needs the scores of {num_classes} classes at "
                f"{width}x{height} pixels, which are too many: set it to 0, or scale the image down"
            )
        with self.thresholds(thresholds) as model:
            found = model.segment(outputs.class_logits, outputs.mask_logits, outputs.canvas)
        if "instances" in found:
            instances = found["instances"]
            found["instances"] = instances[instances.scores >= thresholds.score]
        return found

    @contextmanager
    def thresholds(self, thresholds: Thresholds) -> Iterator[Any]:
        """Lend the model, to this caller alone, with the thresholds of its merging."""
        output = "scores" if thresholds.semantic > 0 else "labels"
        switches = {
            "object_mask_threshold": thresholds.panoptic,
            "overlap_threshold": thresholds.overlap,
            "semantic_output": output,
            "panoptic_scores": True,
        }
        with self._lock, switched(self.predictor.model, **switches):
            yield self.predictor.model


def _filled(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Tensor:
    """Return boxes (x0, y0, x1, y1) as masks (N, *size), bool."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[int(y0) : -int(-y1 // 1), int(x0) : -int(-x1 // 1)] = True
    return masks
