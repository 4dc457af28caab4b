"""The accuracy of names that a model gives to given masks."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...errors import UserError
from ..common import (
    class_name,
    gather,
)
from ..results import results_table

logger = logging.getLogger(__name__)


class MaskAccuracyEvaluator(DatasetEvaluator):
    """Accuracy on given masks, in percent: the best of all classes and no-object must be right.

    Gathers over processes, which must all call ``evaluate``.

    Args:
        dataset_name: its metadata name the classes.
        distributed: False scores what this process saw alone.
    """

    def __init__(self, dataset_name: str, distributed: bool = True):
        self._metadata = MetadataCatalog.get(dataset_name)
        self._distributed = distributed

    def reset(self) -> None:
        self._pairs: list[np.ndarray] = []
        self._num_classes = 0

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        """Keep the classes of a batch of B images.

        Args:
            inputs: B dicts with ``mask_labels`` (N,), in 0..K, K for no-object.
            outputs: B dicts with ``class_logits`` (N, K+1).

        Raises:
            UserError: one of them is missing; says what to do.
        """
        for image, output in zip(inputs, outputs, strict=True):
            if "mask_labels" not in image or "class_logits" not in output:
                raise UserError(
                    f"{image.get('file_name', 'an image')}: accuracy needs `mask_labels` of the "
                    "dataset and `class_logits` of a MaskClassifier; the dataset needs "
                    "annotations"
                )
            logits = output["class_logits"]
            if not logits.isfinite().all():
                name = image.get("file_name", "an image")
                raise UserError(f"{name}: class_logits: expected finite numbers")
            self._num_classes = logits.shape[1] - 1
            found = logits.argmax(1).cpu().numpy()
            self._pairs.append(np.stack([image["mask_labels"].numpy(), found]))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Score; the results are on the main process, the others get {}.

        Returns:
            ``{"mask_classes": {"accuracy", "class accuracy", "accuracy-<class>",
            "accuracy-no object"}}``: of all masks, the mean over the classes, of the masks of each
            class and of those of nothing; NaN where there are none.
        """
        parts = gather((self._pairs, self._num_classes), self._distributed)
        if not parts:
            return {}
        num_classes = max(count for _, count in parts)
        pairs = list(itertools.chain.from_iterable(part for part, _ in parts))
        labels, found = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
        scores = {"mask_classes": self._scores(labels, found == labels, num_classes)}
        logger.info("Classes of %d given masks:\n%s", len(labels), results_table(scores))
        return scores

    def _scores(self, labels: np.ndarray, right: np.ndarray, num_classes: int) -> dict[str, float]:
        each = [_percent(right[labels == k]) for k in range(num_classes)]
        known = [score for score in each if not np.isnan(score)]
        result = {
            "accuracy": _percent(right),
            "class accuracy": float(np.mean(known)) if known else float("nan"),
        }
        things = self._metadata.get("thing_dataset_id_to_contiguous_id")
        is_thing = set(range(num_classes)) if things is None else set(things.values())
        for k, score in enumerate(each):
            result[f"accuracy-{class_name(self._metadata, k, k in is_thing)}"] = score
        return result | {"accuracy-no object": _percent(right[labels == num_classes])}


def _percent(right: np.ndarray) -> float:
    return 100 * float(right.mean()) if right.size else float("nan")
