"""What models of images share whose queries are merged to segmentations.

Source: Mask2Former, Cheng et al. 2022, appendix; MaskFormer, Cheng et al. 2021, section 3.3.
"""

import torch
from detectron2.structures import ImageList, Instances
from torch import Tensor

from ...config.arguments import unless_default
from ...errors import UserError
from ...ops.masks import resize
from ...overrides import is_replaced, replaceable
from ..postprocessing.canvas import Canvas
from ..postprocessing.mergers import InstanceMerger, PanopticMerger, merge_masks
from ..postprocessing.semantic import LabelMerger, SemanticMerger, best_classes
from ..postprocessing.switches import switched
from .base import BaseModel

_METHODS = {
    "sem_seg": "semantic_inference",
    "panoptic_seg": "panoptic_inference",
    "instances": "instance_inference",
}
SEMANTIC_OUTPUTS = ("scores", "labels")


class MergingModel(BaseModel):
    """A model of images whose queries are merged to the outputs that are wanted.

    Masks are merged a few rows at a time. A subclass that has a `semantic_inference`,
    `panoptic_inference` or `instance_inference` of its own gets them whole, for that output.

    Args:
        object_mask_threshold, overlap_threshold: see `PanopticMerger`.
        sem_seg_postprocess_before_inference: resize masks to the output before they are merged;
            always so where instances or panoptic segments are wanted.
        semantic_on, panoptic_on, instance_on: the outputs wanted.
        test_topk_per_image: maximum number of instances of an image.
        semantic_output: "scores" of all classes, as published, or "labels", the best class of every
            pixel, which takes a fraction of the time and nothing of the size K x H x W.
        batch_by_size: in eval, run only images of one canvas together, so that results are those of
            each image alone; published is one canvas for the whole batch.

    The others are those of `BaseModel`, whose `metadata` tells things from stuff.

    Attributes:
        panoptic_scores: give panoptic segments a `score`, see `PanopticMerger`; False as published.

    Raises:
        UserError: no output is wanted, semantic output is off without post-processing first, or
            another `semantic_output`.
    """

    def __init__(
        self,
        *,
        object_mask_threshold: float,
        overlap_threshold: float,
        sem_seg_postprocess_before_inference: bool,
        semantic_on: bool,
        panoptic_on: bool,
        instance_on: bool,
        test_topk_per_image: int,
        semantic_output: str = "scores",
        batch_by_size: bool = False,
        **common,
    ):
        super().__init__(**common)
        if not semantic_on and not sem_seg_postprocess_before_inference:
            raise UserError(
                f"{type(self).__name__}: without semantic output, masks are resized before they "
                "are merged: set sem_seg_postprocess_before_inference, or turn on one of "
                "MODEL.MASK_FORMER.TEST.{SEMANTIC_ON,INSTANCE_ON,PANOPTIC_ON}."
            )
        if semantic_output not in SEMANTIC_OUTPUTS:
            raise UserError(
                f"MODEL.MASK_FORMER.TEST.SEMANTIC_OUTPUT is {semantic_output!r}; it must be one of "
                f"{', '.join(SEMANTIC_OUTPUTS)}."
            )
        self.semantic_output = semantic_output
        self.batch_by_size = batch_by_size
        self.object_mask_threshold = object_mask_threshold
        self.overlap_threshold = overlap_threshold
        self.sem_seg_postprocess_before_inference = sem_seg_postprocess_before_inference
        self.semantic_on = semantic_on
        self.panoptic_on = panoptic_on
        self.panoptic_scores = False
        self.instance_on = instance_on
        self.test_topk_per_image = test_topk_per_image

    @classmethod
    def common_args(cls, cfg) -> dict:
        """Read the arguments of this class from a config."""
        test = cfg.MODEL.MASK_FORMER.TEST
        return {
            **super().common_args(cfg),
            "object_mask_threshold": test.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": test.OVERLAP_THRESHOLD,
            "sem_seg_postprocess_before_inference": (
                test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE or test.PANOPTIC_ON or test.INSTANCE_ON
            ),
            "semantic_on": test.SEMANTIC_ON,
            "panoptic_on": test.PANOPTIC_ON,
            "instance_on": test.INSTANCE_ON,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            **unless_default(
                cls, semantic_output=test.SEMANTIC_OUTPUT, batch_by_size=test.BATCH_BY_SIZE
            ),
        }

    def canvases(self, batched_inputs: list[dict], images: ImageList) -> list[Canvas]:
        """Return the sizes that every input of a batch passes through."""
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        canvases = []
        for x, (height, width) in zip(batched_inputs, images.image_sizes):
            image = (int(height), int(width))
            output = (int(x.get("height", height)), int(x.get("width", width)))
            canvases.append(Canvas(padded, image, output))
        return canvases

    def segment(self, class_logits: Tensor, mask_logits: Tensor, canvas: Canvas) -> dict:
        """Return the outputs wanted of one image, from (Q, K+1) and (Q, h, w)."""
        switches = (self.semantic_on, self.panoptic_on, self.instance_on)
        names = [name for name, is_on in zip(_METHODS, switches) if is_on]
        if self.sem_seg_postprocess_before_inference or not self.semantic_on:
            return self._merge(names, class_logits, mask_logits, canvas)
        result = {"sem_seg": self._merge_and_resize(class_logits, mask_logits, canvas)}
        return result | self._merge(names[1:], class_logits, mask_logits, canvas)

    def _merge_and_resize(
        self, class_logits: Tensor, mask_logits: Tensor, canvas: Canvas
    ) -> Tensor:
        """Return `sem_seg` in the published order for it alone: merge, then resize the scores."""
        wants_labels = self.semantic_output == "labels"
        if wants_labels and not is_replaced(self, _METHODS["sem_seg"]):
            merger = LabelMerger(class_logits.float(), canvas.output, self._factors())
            with torch.autocast(mask_logits.device.type, enabled=False):
                merger.add_resized(mask_logits, canvas)
            return merger.result()
        unresized = Canvas(canvas.padded, canvas.padded, canvas.padded)
        scores = self.semantic_scores(class_logits, mask_logits, unresized)
        scores = resize(canvas.crop(scores), canvas.output)
        return best_classes(scores) if wants_labels else scores

    def semantic_scores(self, class_logits: Tensor, mask_logits: Tensor, canvas: Canvas) -> Tensor:
        """Return scores (K, H, W) over the output of a canvas, whatever `semantic_output` says."""
        with switched(self, semantic_output="scores"):
            return self._merge(["sem_seg"], class_logits, mask_logits, canvas)["sem_seg"]

    def _merge(
        self, names: list[str], class_logits: Tensor, mask_logits: Tensor, canvas: Canvas
    ) -> dict:
        replaced = [name for name in names if is_replaced(self, _METHODS[name])]
        own = [name for name in names if name not in replaced]
        class_logits = class_logits.float()
        mergers = self._mergers(own, class_logits, canvas.output)
        merge_masks(mask_logits, canvas, list(mergers.values()))
        result = {name: merger.result() for name, merger in mergers.items()}
        if replaced:
            with torch.autocast(class_logits.device.type, enabled=False):
                whole = torch.cat([rows for _, rows in canvas.blocks(mask_logits)], 1)
            for name in replaced:
                result[name] = getattr(self, _METHODS[name])(class_logits, whole)
        if "sem_seg" in replaced and self.semantic_output == "labels":
            result["sem_seg"] = best_classes(result["sem_seg"])
        return {name: result[name] for name in names}

    def _mergers(self, names: list[str], class_logits: Tensor, size: tuple[int, int]) -> dict:
        mergers = {}
        if "sem_seg" in names:
            merger = LabelMerger if self.semantic_output == "labels" else SemanticMerger
            mergers["sem_seg"] = merger(class_logits, size, self._factors())
        is_thing = None
        if "panoptic_seg" in names or (self.panoptic_on and "instances" in names):
            is_thing = self._is_thing(class_logits.shape[-1] - 1).to(class_logits.device)
        if "panoptic_seg" in names:
            thresholds = (self.object_mask_threshold, self.overlap_threshold)
            mergers["panoptic_seg"] = PanopticMerger(
                class_logits, size, is_thing, *thresholds, scored=self.panoptic_scores
            )
        if "instances" in names:
            # Things are kept after the best pairs are chosen, so panoptic models find fewer.
            mergers["instances"] = InstanceMerger(
                class_logits, size, self.test_topk_per_image, is_thing if self.panoptic_on else None
            )
        return mergers

    def _factors(self) -> torch.dtype:
        """Return the type of the factors of semantic scores."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def _merge_whole(self, name: str, mask_cls: Tensor, mask_pred: Tensor):
        size = (mask_pred.shape[-2], mask_pred.shape[-1])
        merger = self._mergers([name], mask_cls.float(), size)[name]
        merge_masks(mask_pred, Canvas(size, size, size), [merger])
        return merger.result()

    @replaceable
    def semantic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Tensor:
        """Return scores (K, H, W) of class logits (Q, K+1) and mask logits (Q, H, W)."""
        with switched(self, semantic_output="scores"):
            return self._merge_whole("sem_seg", mask_cls, mask_pred)

    @replaceable
    def panoptic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> tuple[Tensor, list[dict]]:
        """Return `panoptic_seg` (see `MaskFormer.forward`) of the same."""
        return self._merge_whole("panoptic_seg", mask_cls, mask_pred)

    @replaceable
    def instance_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Instances:
        """Return `instances` (see `MaskFormer.forward`) of the same."""
        return self._merge_whole("instances", mask_cls, mask_pred)

    def _is_thing(self, num_classes: int) -> Tensor:
        """Return (K,), True for the classes that are things in the training set."""
        ids = getattr(self.metadata, "thing_dataset_id_to_contiguous_id", None)
        if ids is None:
            raise UserError(
                f"{type(self).__name__}: panoptic output needs to know which classes are things, "
                "from `thing_dataset_id_to_contiguous_id` in the metadata of DATASETS.TRAIN[0]; "
                f"{getattr(self.metadata, 'name', 'no dataset')} has none."
            )
        table = torch.zeros(num_classes, dtype=torch.bool)
        table[[i for i in ids.values() if i < num_classes]] = True
        return table
