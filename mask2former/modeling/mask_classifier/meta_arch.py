"""The meta-architecture that classifies given masks.

Source: Mask2Former (Cheng et al. 2022) predicts mask and class of a query separately, so that its
class branch can be trained alone, on masks of any origin such as Segment Anything (Kirillov et al.
2023).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from detectron2.structures import ImageList
from torch import Tensor, nn

from ...config.arguments import configurable
from ...errors import UserError
from ..criterion.build import weights_of_layers
from ..meta_arch.batching import by_canvas
from ..meta_arch.heads import pixel_features
from ..meta_arch.inputs_in_errors import name_inputs
from ..meta_arch.merging import MergingModel
from ..postprocessing.canvas import Canvas
from ..registries import META_ARCH_REGISTRY
from .decoder import MaskQueryDecoder, Memory
from .given_masks import (
    IGNORED,
    AsLogits,
    MaskLabelCriterion,
    check_masks,
    discount,
    mask_coverage,
    no_object,
)

PARTS = ("backbone", "pixel_decoder", "decoder")
# Mask pixels (masks x height x width) of a chunk, so that masks of large images come one by one.
_PIXELS_PER_CHUNK = 32 * 2**20


@META_ARCH_REGISTRY.register()
class MaskClassifier(MergingModel):
    """Classify any number of given binary masks.

    Args:
        freeze: parts that keep their weights and stay in eval mode: any of "backbone",
            "pixel_decoder" and "decoder", the latter without what makes and classifies queries.
        masks_per_chunk: masks of an image that are processed at a time in eval, fewer where the
            image is large; bounds memory, not the result.

    The others are those of `MergingModel`; `sem_seg_head` holds a pixel decoder and, as predictor,
    a `MaskQueryDecoder`.

    Raises:
        UserError: an unknown part, or another decoder.
    """

    @configurable
    def __init__(self, *, freeze: Sequence[str] = (), masks_per_chunk: int = 64, **args):
        super().__init__(**args)
        predictor = getattr(self.sem_seg_head, "predictor", None)
        if not isinstance(predictor, MaskQueryDecoder):
            raise UserError(
                "MaskClassifier: expected a head whose predictor is a MaskQueryDecoder, got "
                f"{type(predictor).__name__}; set MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME."
            )
        unknown = sorted(set(freeze) - set(PARTS))
        if unknown or masks_per_chunk < 1:
            raise UserError(
                f"MaskClassifier: freeze takes {', '.join(PARTS)} and masks_per_chunk 1 or more, "
                f"got {list(freeze)} and {masks_per_chunk} (MODEL.MASK_CLASSIFIER)."
            )
        self.freeze = tuple(freeze)
        self.masks_per_chunk = masks_per_chunk
        for module in self._frozen_modules():
            module.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        c = cfg.MODEL.MASK_FORMER
        weights = weights_of_layers(cfg, {"loss_ce": c.CLASS_WEIGHT})
        return {
            **cls.common_args(cfg),
            "criterion": MaskLabelCriterion(
                cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, weights, c.NO_OBJECT_WEIGHT
            ),
            "freeze": cfg.MODEL.MASK_CLASSIFIER.FREEZE,
            "masks_per_chunk": cfg.MODEL.MASK_CLASSIFIER.MASKS_PER_CHUNK,
        }

    def _frozen_modules(self) -> list[nn.Module]:
        found: list[nn.Module] = []
        if "backbone" in self.freeze:
            found.append(self.backbone)
        if "pixel_decoder" in self.freeze:
            found.append(self.sem_seg_head.pixel_decoder)
        if "decoder" in self.freeze:
            predictor = self.sem_seg_head.predictor
            new = {id(module) for module in predictor.new_modules()}
            found += [child for child in predictor.children() if id(child) not in new]
        return found

    def train(self, mode: bool = True) -> Self:
        """Set the mode as `torch.nn.Module.train`, but keep frozen parts in eval mode, their
        statistics and dropout included."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    @by_canvas
    @name_inputs
    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train on masks with labels, or classify masks.

        Args:
            batched_inputs: one dict an image: `image` (3, H, W); `masks` (N, h, w) bool, in
                training of the size of `image`, in eval of the output's; in training `mask_labels`
                (N,), int64 in 0..K with K for no-object. In eval optionally `height` and `width`
                of the output, in pixels (default: those of the image), and `mask_scores` (N,) in
                0..1, the quality of each mask, which its class probabilities are multiplied by. In
                eval `masks` may be anything with a shape (N, h, w) that returns bool masks
                (n, h, w) when it is indexed by n integers, and is read in chunks. With the
                backbone `SamBackbone`, `prompts` may replace `masks`: see `SamPrompts`.

        Returns:
            in training the weighted losses by name. In eval one dict an image: `class_logits`
            (N, K+1), and those wanted of `instances`, `panoptic_seg` and `sem_seg`, merged from
            the masks as `MaskFormer` merges its own. An empty mask is no-object with
            probability 1. Masks that SAM made are there too, as `masks` and `mask_scores`.

        Raises:
            UserError: masks are missing, or of another size; says both sizes.
        """
        images = self.preprocess([x["image"] for x in batched_inputs])
        mask_features, maps, features = self.encode(images.tensor)
        predictor = self.sem_seg_head.predictor
        if self.training:
            coverage, labels = self.prepare_masks(batched_inputs, images, mask_features.shape[-2:])
            outputs = predictor(maps, mask_features, coverage)
            return self.weigh(self.criterion(outputs, labels))
        memory = predictor.encode(maps, mask_features)
        results = []
        for i, (x, canvas) in enumerate(zip(batched_inputs, self.canvases(batched_inputs, images))):
            made = self.segment_prompts(features, i, x, canvas)
            results.append(made | self.name_masks(memory.of_image(i), {**x, **made}, canvas))
        return results

    def divided_by_step(self, parts: Sequence[list[dict]]) -> AbstractContextManager:
        """Divide by the masks of all parts of a step; see `BaseModel.divided_by_step`."""
        none = torch.empty(0, dtype=torch.int64)
        labels = [x.get("mask_labels", none) for part in parts for x in part]
        return self.criterion.divided_by(labels)

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """Return mask features, the decoder's maps and the backbone's features of a canvas."""
        features = self.extract(images)
        mask_features, _, maps = pixel_features(self.sem_seg_head.pixel_decoder, features)
        return mask_features, maps, features

    def prepare_masks(
        self, batched_inputs: list[dict], images: ImageList, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return coverage (B, N, *size) and labels (B, N) of all masks; N is the maximum over the
        images, and at least 1.

        Raises:
            UserError: an input lacks masks or their labels, or has masks of another size.
        """
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        max_masks = max(1, *(len(x.get("masks", ())) for x in batched_inputs))
        coverage = torch.zeros(len(batched_inputs), max_masks, *size, device=self.device)
        labels = torch.full((len(batched_inputs), max_masks), IGNORED, device=self.device)
        for i, x in enumerate(batched_inputs):
            if "masks" not in x or "mask_labels" not in x:
                raise UserError(
                    "MaskClassifier: training needs `masks` and `mask_labels` for every image; "
                    f"{x.get('file_name', 'an input')} lacks them."
                )
            image = (x["image"].shape[-2], x["image"].shape[-1])
            check_masks(x["masks"], image, x)
            masks = x["masks"].to(self.device)
            coverage[i, : len(masks)] = mask_coverage(masks, image, padded, size)
            labels[i, : len(masks)] = x["mask_labels"].to(self.device)
        return coverage, labels

    def segment_prompts(
        self, features: dict[str, Tensor], index: int, x: dict, canvas: Canvas
    ) -> dict[str, Tensor]:
        """Return masks (N, H, W) and their scores (N,) where an input has prompts instead.

        Returns:
            `masks` and `mask_scores`; {} where there are no prompts.

        Raises:
            UserError: the backbone makes no masks of prompts.
        """
        if "prompts" not in x:
            return {}
        segment = getattr(self.backbone, "segment", None)
        if segment is None:
            raise UserError(
                "MaskClassifier: `prompts` need a backbone that makes masks, MODEL.BACKBONE.NAME "
                f"build_sam_backbone; this one is {type(self.backbone).__name__}. Give `masks`."
            )
        masks, scores = segment(features, index, x["prompts"], canvas)
        return {"masks": masks, "mask_scores": scores}

    def name_masks(self, memory: Memory, x: dict, canvas: Canvas) -> dict:
        """Return the result of one image; see `forward`.

        Raises:
            UserError: an input without masks, or with masks of another size.
        """
        if "masks" not in x:
            raise UserError(
                "MaskClassifier: expected `masks` (N, H, W) to classify, as its queries are made "
                f"of them; the input has {', '.join(sorted(x))}."
            )
        masks = x["masks"]
        check_masks(masks, canvas.output, x)
        logits = self.classify(memory, masks, canvas)
        if x.get("mask_scores") is not None:
            logits = discount(logits, torch.as_tensor(x["mask_scores"], device=logits.device))
        result = {"class_logits": logits}
        if len(masks) == 0:  # an empty one, as the mergers need at least one
            masks = torch.zeros(1, *canvas.output, dtype=torch.bool, device=self.device)
            logits = no_object(1, logits.shape[-1], self.device)
        size = canvas.output
        result |= self.segment(logits, AsLogits(masks, self.device), Canvas(size, size, size))
        if "instances" in result:  # the best pairs include some of probability 0
            found = result["instances"]
            result["instances"] = found[found.scores > 0]
        return result

    def classify(self, memory: Memory, masks: Any, canvas: Canvas) -> Tensor:
        """Return class logits (N, K+1) of masks over the output, computed in chunks.

        Args:
            memory: of one image, from the decoder's `encode`.
            masks: as `masks` of `forward`.
            canvas: the sizes of the image.
        """
        num_logits = self.sem_seg_head.num_classes + 1
        logits = [torch.zeros(0, num_logits, device=self.device)]
        height, width = canvas.output
        step = max(1, min(self.masks_per_chunk, _PIXELS_PER_CHUNK // (height * width)))
        for start in range(0, len(masks), step):
            chunk = torch.arange(start, min(start + step, len(masks)))
            masks_now = masks[chunk].to(self.device)
            coverage = mask_coverage(masks_now, canvas.image, canvas.padded, memory.fine_size)
            found = self.sem_seg_head.predictor.classify(memory, coverage[None])[-1][0].float()
            empty = ~masks_now.flatten(1).any(1, keepdim=True)
            logits.append(torch.where(empty, no_object(1, num_logits, self.device), found))
        return torch.cat(logits)
