"""From the outputs of an exported model to the results of one image, as its metadata say."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metadata import Metadata
from ..resizing import Canvas, Resized, nearest
from .given_masks import GivenMasks
from .instances import Instances, mask_boxes
from .merging import (
    InstanceMerger,
    Labels,
    Merger,
    PanopticMerger,
    SemanticMerger,
    merge_masks,
    merge_then_resize,
)


class Segmenter:
    """Makes the results of one image of what the file gives for it.

    Args:
        metadata: of the file, with the thresholds that are used.
        label_threshold: least fraction of a pixel's scores that its label has, in 0..1.
    """

    def __init__(self, metadata: Metadata, label_threshold: float = 0.0):
        self.metadata = metadata
        self.label_threshold = label_threshold
        self._keeps_scores = metadata.semantic_output == "scores"
        self._is_thing = np.zeros(len(metadata.class_names), bool)
        self._is_thing[list(metadata.thing_ids)] = True

    def __call__(self, *outputs_and_canvas: Any) -> dict[str, Any]:
        """Return the results, in the form of `Runtime.__call__`, of the outputs for one image, as
        `Metadata.names` lists them, and its `Canvas`, the last argument."""
        *outputs, canvas = outputs_and_canvas
        if self.metadata.postprocess:
            return self._read_merged(outputs, canvas)
        if self.metadata.kind == "per_pixel":
            return self._label(outputs[0], canvas)
        return self._merge(outputs[0], outputs[1], canvas)

    def _label(self, logits: np.ndarray, canvas: Canvas) -> dict[str, Any]:
        """Return the result of one image, from class logits (K, h, w)."""
        options = (self.label_threshold, self._keeps_scores)
        labels = Labels(len(logits), canvas.output, *options)
        for rows, scores in Resized(logits, canvas).blocks():
            labels.add(rows, scores)
        return {"sem_seg": labels.values}

    def _merge(self, class_logits: np.ndarray, masks: Any, canvas: Canvas) -> dict[str, Any]:
        """Return the results of one image, from (Q, K+1) and (Q, h, w)."""
        mergers = self._mergers(class_logits, canvas.output)
        together = list(mergers.values())
        semantic = mergers.get("sem_seg")
        if isinstance(semantic, SemanticMerger) and not self.metadata.resize_before_merge:
            merge_then_resize(masks, canvas, semantic)
            together.remove(semantic)
        merge_masks(masks, canvas, together)
        return {name: merger.result() for name, merger in mergers.items()}

    def _mergers(self, class_logits: np.ndarray, size: tuple[int, int]) -> dict[str, Merger]:
        options, mergers = self.metadata, dict[str, Merger]()
        if options.semantic_on:
            mergers["sem_seg"] = SemanticMerger(
                class_logits, size, self.label_threshold, self._keeps_scores
            )
        if options.panoptic_on:
            thresholds = (options.object_mask_threshold, options.overlap_threshold)
            mergers["panoptic_seg"] = PanopticMerger(
                class_logits, size, self._is_thing, *thresholds
            )
        if options.instance_on:
            only = self._is_thing if options.panoptic_on else None
            mergers["instances"] = InstanceMerger(class_logits, size, options.topk, only)
        return mergers

    def name(self, class_logits: np.ndarray, masks: GivenMasks) -> dict[str, Any]:
        """Return the results of one image, from class logits (N, K+1) of its N masks."""
        logits = masks.class_logits(class_logits)
        size = masks.size
        result: dict[str, Any] = {"class_logits": logits[: len(masks)]}
        result |= self._merge(logits, masks.at_least_one(), Canvas(size, size, size))
        if "instances" in result:  # the best pairs include some of probability 0
            found: Instances = result["instances"]
            result["instances"] = found[found.scores > 0]
        return result

    def _read_merged(self, outputs: Sequence[np.ndarray], canvas: Canvas) -> dict[str, Any]:
        """Return the result that the graph has made over the canvas, brought to the output's size
        by the nearest pixel."""
        first = nearest(outputs[0], canvas)
        if self.metadata.postprocess == "semantic":
            return {"sem_seg": first}
        if self.metadata.postprocess == "panoptic":
            visible = np.unique(first)
            segments = [
                {"id": i, "isthing": bool(self._is_thing[k]), "category_id": k}
                for i, k in enumerate(outputs[1][: outputs[2]].tolist(), start=1)
                if i in visible
            ]
            return {"panoptic_seg": (first, segments)}
        _, _, scores, classes, count = outputs
        masks = first[:count].astype(bool)
        instances = Instances(
            masks, mask_boxes(masks), scores[:count], classes[:count].astype(np.int64)
        )
        return {"instances": instances}
