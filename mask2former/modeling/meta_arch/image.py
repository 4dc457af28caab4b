"""The meta-architecture for images: backbone, head, and training or inference around them.

Source: Mask2Former, Cheng et al. 2022, section 3.
"""

import torch
from detectron2.structures import ImageList, Instances
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from ...config.arguments import configurable, unless_default
from ...errors import UserError
from ...ops.masks import resize
from ...overrides import is_replaced, replaceable
from ..postprocessing.canvas import Canvas
from ..postprocessing.cuda_graphs import GraphedFunction
from ..postprocessing.mergers import InstanceMerger, PanopticMerger, SemanticMerger, merge_masks
from ..registries import META_ARCH_REGISTRY
from .base import BaseModel, SegmentationModel, mask_tensor, pad_to_canvas
from .heads import takes_aux_outputs

_METHODS = {
    "sem_seg": "semantic_inference",
    "panoptic_seg": "panoptic_inference",
    "instances": "instance_inference",
}


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

    The others are those of `BaseModel`, whose `metadata` tells things from stuff.

    Raises:
        UserError: no output is wanted, or semantic output is off without post-processing first.
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
        **common,
    ):
        super().__init__(**common)
        if not semantic_on and not sem_seg_postprocess_before_inference:
            raise UserError(
                f"{type(self).__name__}: without semantic output, masks are resized before they "
                "are merged: set sem_seg_postprocess_before_inference, or turn on one of "
                "MODEL.MASK_FORMER.TEST.{SEMANTIC_ON,INSTANCE_ON,PANOPTIC_ON}."
            )
        self.object_mask_threshold = object_mask_threshold
        self.overlap_threshold = overlap_threshold
        self.sem_seg_postprocess_before_inference = sem_seg_postprocess_before_inference
        self.semantic_on = semantic_on
        self.panoptic_on = panoptic_on
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
        # The published order for semantic output alone: merge, then resize the scores.
        unresized = Canvas(canvas.padded, canvas.padded, canvas.padded)
        scores = self._merge(["sem_seg"], class_logits, mask_logits, unresized)["sem_seg"]
        result = {"sem_seg": resize(canvas.crop(scores), canvas.output)}
        return result | self._merge(names[1:], class_logits, mask_logits, canvas)

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
        return {name: result[name] for name in names}

    def _mergers(self, names: list[str], class_logits: Tensor, size: tuple[int, int]) -> dict:
        mergers = {}
        if "sem_seg" in names:
            factors = torch.float32 if self.precision == "fp32" else torch.bfloat16
            mergers["sem_seg"] = SemanticMerger(class_logits, size, factors)
        is_thing = None
        if "panoptic_seg" in names or (self.panoptic_on and "instances" in names):
            is_thing = self._is_thing(class_logits.shape[-1] - 1).to(class_logits.device)
        if "panoptic_seg" in names:
            mergers["panoptic_seg"] = PanopticMerger(
                class_logits, size, is_thing, self.object_mask_threshold, self.overlap_threshold
            )
        if "instances" in names:
            # Things are kept after the best pairs are chosen, so panoptic models find fewer.
            mergers["instances"] = InstanceMerger(
                class_logits, size, self.test_topk_per_image, is_thing if self.panoptic_on else None
            )
        return mergers

    def _merge_whole(self, name: str, mask_cls: Tensor, mask_pred: Tensor):
        size = (mask_pred.shape[-2], mask_pred.shape[-1])
        merger = self._mergers([name], mask_cls.float(), size)[name]
        merge_masks(mask_pred, Canvas(size, size, size), [merger])
        return merger.result()

    @replaceable
    def semantic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Tensor:
        """Return scores (K, H, W) of class logits (Q, K+1) and mask logits (Q, H, W)."""
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


@META_ARCH_REGISTRY.register()
class MaskFormer(SegmentationModel, MergingModel):
    """Semantic, instance and panoptic segmentation of images with one model.

    Args:
        cuda_graphs: in eval on a GPU, replay what an image of the same size did (cuda_graphs.py).

    The others are those of `SegmentationModel` and `MergingModel`.
    """

    @configurable
    def __init__(self, *, cuda_graphs: bool = False, **common):
        super().__init__(**common)
        self._replay = GraphedFunction(self.predict) if cuda_graphs else None

    @classmethod
    def from_config(cls, cfg):
        cuda_graphs = cfg.MODEL.MASK_FORMER.TEST.CUDA_GRAPHS
        return cls.common_args(cfg) | unless_default(cls, cuda_graphs=cuda_graphs)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train on a batch, or segment it.

        Args:
            batched_inputs: one dict an image: `image` (3, H, W); in training `instances` with
                `gt_classes` (N,) and `gt_masks` (N, H, W), and optionally `ignore` (H, W), True
                where pixels do not count; in eval optionally `height` and `width` of the output,
                in pixels (default: those of the image).

        Returns:
            in training the weighted losses by name. In eval one dict an image, with those wanted
            of `sem_seg`, scores (K, H, W), float16 if `precision` is "bf16"; `panoptic_seg`, ids
            (H, W) with 0 for void, and a list of dicts with `id`, `isthing`, `category_id`; and
            `instances`, `Instances` with `pred_masks`, `pred_boxes`, `scores`, `pred_classes`.

        Raises:
            UserError: training without `instances`.
        """
        images = self.preprocess([x["image"] for x in batched_inputs])
        outputs = self._predict_or_replay(images.tensor)
        if self.training:
            targets = self.targets_of(batched_inputs, images)
            return self.weigh(self.criterion(outputs, targets))
        canvases = self.canvases(batched_inputs, images)
        del images  # frees memory for the masks
        return [
            retry_if_cuda_oom(self.segment)(class_logits, mask_logits, canvas)
            for class_logits, mask_logits, canvas in zip(
                outputs["pred_logits"], outputs["pred_masks"], canvases
            )
        ]

    def _predict_or_replay(self, images: Tensor) -> dict[str, Tensor]:
        possible = images.is_cuda and not self.training and not torch.is_grad_enabled()
        if self._replay is None or not possible or not takes_aux_outputs(self.sem_seg_head):
            return self.predict(images)
        return self._replay(images)

    def _apply(self, *args, **kwargs):
        if getattr(self, "_replay", None) is not None:
            self._replay.clear()  # weights move
        return super()._apply(*args, **kwargs)

    @replaceable
    def prepare_targets(
        self, targets: list[Instances] | list[dict], images: ImageList
    ) -> list[dict]:
        """Return the targets of every image, padded to the canvas.

        Args:
            targets: `Instances` with `gt_classes` (N,) and `gt_masks` (N, h, w); or the inputs of
                `forward` that have them, with their options (`target_options`). A subclass gets
                the former.
            images: the canvas.

        Returns:
            one dict an image with `labels` (N,) and `masks` (N, H, W), bool.
        """
        prepared = []
        for x in targets:
            is_input = isinstance(x, dict)
            objects = (self.annotations([x])[0] if is_input else x).to(self.device)
            masks = pad_to_canvas(mask_tensor(objects.gt_masks), images)
            options = self.target_options(x, images) if is_input else {}
            prepared.append({"labels": objects.gt_classes, "masks": masks, **options})
        return prepared

    def annotations(self, batched_inputs: list[dict]) -> list[Instances]:
        """Return the instances of a batch, on the model's device."""
        for x in batched_inputs:
            if "instances" not in x:
                raise UserError(
                    "MaskFormer: training needs `instances` with gt_classes and gt_masks for "
                    f"every image; {x.get('file_name', 'an input')} has none. Check that "
                    "INPUT.DATASET_MAPPER_NAME fits the dataset."
                )
        return [x["instances"].to(self.device) for x in batched_inputs]
