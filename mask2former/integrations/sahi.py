"""A detection model of SAHI, which finds small objects in large images slice by slice.

Contract: SAHI's `DetectionModel`.
"""

from typing import Any

import numpy as np

from ..errors import MissingPackageError, UserError
from ..predict import Predictor
from ..predict.configs import predict_config
from ..results.classes import class_name

try:
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask
except ModuleNotFoundError as error:
    raise MissingPackageError("SAHI is not installed: pip install sahi") from error


class Mask2FormerDetectionModel(DetectionModel):
    """The instances of a model, for `sahi.predict.get_sliced_prediction`.

    Its arguments are SAHI's: `config_path`, `model_path` (the weights), `device`,
    `confidence_threshold`, `image_size` (the short side that slices are resized to); or `model`, a
    `Predictor` with ``array_format="RGB"``.
    """

    def load_model(self) -> None:
        """Build the model.

        Raises:
            UserError, OSError: it cannot be used.
        """
        opts = ["MODEL.WEIGHTS", self.model_path or ""]
        if self.image_size is not None:
            opts += ["INPUT.MIN_SIZE_TEST", self.image_size]
        cfg = predict_config(self.config_path, opts)
        self.set_model(Predictor(cfg, device=str(self.device), array_format="RGB"))

    def set_model(self, model: Predictor, **kwargs: Any) -> None:
        """Take a predictor, and the names of its classes unless there is a mapping.

        Raises:
            UserError: it expects BGR, or gives no instances.
        """
        if model.array_format != "RGB":
            raise UserError('SAHI has images in RGB: expected a Predictor of array_format="RGB"')
        if not getattr(model.model, "instance_on", False):
            raise UserError("SAHI needs instances: set MODEL.MASK_FORMER.TEST.INSTANCE_ON True")
        self.model = model
        if not self.category_mapping:
            labels = range(model.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
            names = {str(label): class_name(model.metadata, label, True) for label in labels}
            self.category_mapping = names

    def perform_inference(self, image: np.ndarray) -> None:
        """Predict an image (H, W, 3), uint8, RGB."""
        self._original_predictions = self.model(np.ascontiguousarray(image))["instances"]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        """Set what SAHI reads: the instances of the image, moved to where its slice is."""
        shift, full = _first(shift_amount_list) or [0, 0], _first(full_shape_list)
        found = self._original_predictions
        found = found[found.scores >= self.confidence_threshold].to("cpu")
        columns = (found.pred_masks.numpy(), found.scores.tolist(), found.pred_classes.tolist())
        predictions = []
        for mask, score, label in zip(*columns):
            polygons = get_coco_segmentation_from_bool_mask(mask)
            if polygons:  # SAHI knows no mask of a line or dot
                predictions.append(
                    ObjectPrediction(
                        segmentation=polygons,
                        category_id=label,
                        category_name=self.category_mapping[str(label)],
                        score=score,
                        shift_amount=shift,
                        full_shape=full,
                    )
                )
        self._object_prediction_list_per_image = [predictions]


def _first(values: Any) -> Any:
    """Return the pair of the only image, of a list of pairs or one pair."""
    return values[0] if values and isinstance(values[0], list | tuple) else values
