"""The meta-architecture for images: backbone, head, and training or inference around them.

Source: Mask2Former, Cheng et al. 2022, section 3.
"""

import torch
from detectron2.structures import ImageList, Instances
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from ...config.arguments import configurable, unless_default
from ...errors import UserError
from ...overrides import is_replaced, replaceable
from ..postprocessing.cuda_graphs import GraphedFunction
from ..postprocessing.semantic import best_classes
from ..registries import META_ARCH_REGISTRY
from .base import SegmentationModel, mask_tensor, pad_to_canvas
from .batching import by_canvas
from .heads import takes_aux_outputs
from .inputs_in_errors import name_inputs
from .merging import MergingModel
from .semantic_windows import scores_of_windows


@META_ARCH_REGISTRY.register()
class MaskFormer(SegmentationModel, MergingModel):
    """Semantic, instance and panoptic segmentation of images with one model.

    Args:
        cuda_graphs: in eval on a GPU, replay what an image of the same size did (cuda_graphs.py).
        semantic_window: from 1 on, semantic scores are averages over windows of so many pixels
            along the longer side of an image (semantic_windows.py).

    The others are those of `SegmentationModel` and `MergingModel`.

    Raises:
        UserError: windows with panoptic or instance output, whose segments they would cut.
    """

    @configurable
    def __init__(self, *, cuda_graphs: bool = False, semantic_window: int = 0, **common):
        super().__init__(**common)
        if semantic_window > 0 and (self.panoptic_on or self.instance_on):
            raise UserError(
                f"MODEL.MASK_FORMER.TEST.SEMANTIC_WINDOW is {semantic_window}: windows are for "
                "semantic output alone; set it to 0, or turn PANOPTIC_ON and INSTANCE_ON off."
            )
        self.semantic_window = semantic_window
        self._replay = GraphedFunction(self.predict) if cuda_graphs else None

    @classmethod
    def from_config(cls, cfg):
        test = cfg.MODEL.MASK_FORMER.TEST
        return cls.common_args(cfg) | unless_default(
            cls, cuda_graphs=test.CUDA_GRAPHS, semantic_window=test.SEMANTIC_WINDOW
        )

    @by_canvas
    @name_inputs
    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train on a batch, or segment it.

        Args:
            batched_inputs: one dict an image: `image` (3, H, W); in training `instances` with
                `gt_classes` (N,) and `gt_masks` (N, H, W), and optionally `ignore` (H, W), True
                where pixels do not count; in eval optionally `height` and `width` of the output,
                in pixels (default: those of the image).

        Returns:
            in training the weighted losses by name. In eval one dict an image, with those wanted
            of `sem_seg`, scores (K, H, W), float16 if `precision` is "bf16", or, as
            `semantic_output` says, classes (H, W), int32, -1 for none; `panoptic_seg`, ids
            (H, W) with 0 for void, and a list of dicts with `id`, `isthing`, `category_id`; and
            `instances`, `Instances` with `pred_masks`, `pred_boxes`, `scores`, `pred_classes`.

        Raises:
            UserError: training without `instances`.
        """
        if self.semantic_window > 0 and not self.training:
            return [retry_if_cuda_oom(self._segment_windows)(x) for x in batched_inputs]
        if self.training:
            return self.losses(batched_inputs)
        images = self.canvas_of(batched_inputs)
        outputs = self._predict_or_replay(images.tensor)
        canvases = self.canvases(batched_inputs, images)
        del images  # frees memory for the masks
        return [
            retry_if_cuda_oom(self.segment)(class_logits, mask_logits, canvas)
            for class_logits, mask_logits, canvas in zip(
                outputs["pred_logits"], outputs["pred_masks"], canvases
            )
        ]

    def _segment_windows(self, x: dict) -> dict[str, Tensor]:
        scores = scores_of_windows(self, x, self.semantic_window)
        return {"sem_seg": best_classes(scores) if self.semantic_output == "labels" else scores}

    def _predict_or_replay(self, images: Tensor) -> dict[str, Tensor]:
        possible = images.is_cuda and not torch.is_grad_enabled()
        if self._replay is None or not possible or not takes_aux_outputs(self.sem_seg_head):
            return self.predict(images)
        return self._replay(images)

    def canvas_of(self, batched_inputs: list[dict]) -> ImageList:
        return self.preprocess([x["image"] for x in batched_inputs])

    def labels_of(self, batched_inputs: list[dict]) -> list[Tensor]:
        if is_replaced(self, "prepare_targets"):
            return super().labels_of(batched_inputs)
        return [objects.gt_classes for objects in self.annotations(batched_inputs)]

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
        """Return the instances of a batch, on the model's device.

        Raises:
            UserError: an input has none.
        """
        for x in batched_inputs:
            if "instances" not in x:
                raise UserError(
                    "MaskFormer: training needs `instances` with gt_classes and gt_masks for "
                    f"every image; {x.get('file_name', 'an input')} has none. Check that "
                    "INPUT.DATASET_MAPPER_NAME fits the dataset."
                )
        return [x["instances"].to(self.device) for x in batched_inputs]
