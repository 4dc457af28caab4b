"""The meta-architecture for images: backbone, head, and training or inference around them.

Source: Mask2Former, Cheng et al. 2022, section 3.
"""

import zlib
from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor, nn

from ..ops.masks import resize
from .criterion import SetCriterion
from .heads import accepts_keyword
from .inference import Canvas, InstanceMerger, PanopticMerger, SemanticMerger, merge_masks
from .matcher import HungarianMatcher


def build_criterion(cfg, num_classes: int) -> SetCriterion:
    """Build matcher and losses from MODEL.MASK_FORMER; both use the same weights and points."""
    c = cfg.MODEL.MASK_FORMER
    weights = {"loss_ce": c.CLASS_WEIGHT, "loss_mask": c.MASK_WEIGHT, "loss_dice": c.DICE_WEIGHT}
    layers = range(c.DEC_LAYERS - 1) if c.DEEP_SUPERVISION else ()
    weight_dict = {**weights, **{f"{k}_{i}": w for i in layers for k, w in weights.items()}}
    matcher = HungarianMatcher(
        cost_class=c.CLASS_WEIGHT,
        cost_mask=c.MASK_WEIGHT,
        cost_dice=c.DICE_WEIGHT,
        num_points=c.TRAIN_NUM_POINTS,
    )
    return SetCriterion(
        num_classes,
        matcher=matcher,
        weight_dict=weight_dict,
        eos_coef=c.NO_OBJECT_WEIGHT,
        losses=["labels", "masks"],
        num_points=c.TRAIN_NUM_POINTS,
        oversample_ratio=c.OVERSAMPLE_RATIO,
        importance_sample_ratio=c.IMPORTANCE_SAMPLE_RATIO,
    )


class MaskClassificationModel(nn.Module):
    """What the models for images and for clips share: backbone, head, criterion, input.

    Args:
        backbone: maps images (B, 3, H, W) to features by name.
        sem_seg_head: maps features to `pred_logits`, `pred_masks` and `aux_outputs`.
        criterion: the training loss.
        size_divisibility: batches are padded to a multiple of this; below 0, of what the
            backbone asks for.
        pixel_mean, pixel_std: of each channel, in the units and channel order of the images.
        point_seed: from 0 on, fixes the points of an image's losses whatever else is in its
            batch; they still differ from iteration to iteration.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        criterion: nn.Module,
        size_divisibility: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        point_seed: int = -1,
    ):
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.criterion = criterion
        if size_divisibility < 0:
            size_divisibility = backbone.size_divisibility
        self.size_divisibility = size_divisibility
        self.point_seed = point_seed
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def common_args(cls, cfg) -> dict:
        """Read the arguments of this class from a config."""
        backbone = build_backbone(cfg)
        sem_seg_head = build_sem_seg_head(cfg, backbone.output_shape())
        return {
            "backbone": backbone,
            "sem_seg_head": sem_seg_head,
            "criterion": build_criterion(cfg, sem_seg_head.num_classes),
            "size_divisibility": cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "point_seed": cfg.MODEL.MASK_FORMER.POINT_SEED,
        }

    @property
    def device(self) -> torch.device:
        """Where the model lives and inputs are moved to."""
        return self.pixel_mean.device

    def preprocess(self, images: Sequence[Tensor]) -> ImageList:
        """Normalise images (3, H, W) and pad them, with zeros, to one canvas."""
        normed = [(x.to(self.device) - self.pixel_mean) / self.pixel_std for x in images]
        return ImageList.from_tensors(normed, self.size_divisibility)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Run backbone and head on a canvas (B, 3, H, W); without auxiliary outputs in eval."""
        return self.decode(self.extract(images))

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """The backbone's features of a canvas (B, 3, H, W), by name."""
        if _channels_last_pays(images):
            images = images.contiguous(memory_format=torch.channels_last)
        return self.backbone(images)

    def decode(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The head's outputs, in eval without the auxiliary ones."""
        if self.training or not accepts_keyword(self.sem_seg_head.forward, "aux_outputs"):
            return self.sem_seg_head(features)
        return self.sem_seg_head(features, aux_outputs=False)

    def weighted_losses(self, outputs: dict, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Losses times their weights; those without a weight are left out."""
        losses = self.criterion(outputs, targets)
        weights = self.criterion.weight_dict
        return {name: value * weights[name] for name, value in losses.items() if name in weights}

    def seed_targets(self, targets: list[dict], batched_inputs: Sequence[dict]) -> None:
        """Give every target a seed from its image's name and the iteration, if asked for."""
        if self.point_seed < 0:
            return
        iteration = _current_iteration()
        for target, x in zip(targets, batched_inputs):
            name = x.get("image_id", x.get("video_id", x.get("file_name", "")))
            text = f"{self.point_seed} {iteration} {name}"
            target["seed"] = zlib.crc32(text.encode())


@META_ARCH_REGISTRY.register()
class MaskFormer(MaskClassificationModel):
    """Semantic, instance and panoptic segmentation of images with one model.

    Args:
        num_queries: Q; kept for code that reads it.
        object_mask_threshold, overlap_threshold: see `PanopticMerger`.
        metadata: of the training set; tells things from stuff.
        sem_seg_postprocess_before_inference: resize masks to the output before they are merged;
            always so where instances or panoptic segments are wanted.
        semantic_on, panoptic_on, instance_on: the outputs wanted.
        test_topk_per_image: most instances of an image.

    The others are those of `MaskClassificationModel`.

    Raises:
        ValueError: no output is wanted, or semantic output is off without post-processing first.
    """

    @configurable
    def __init__(
        self,
        *,
        num_queries: int,
        object_mask_threshold: float,
        overlap_threshold: float,
        metadata,
        sem_seg_postprocess_before_inference: bool,
        semantic_on: bool,
        panoptic_on: bool,
        instance_on: bool,
        test_topk_per_image: int,
        **common,
    ):
        super().__init__(**common)
        if not semantic_on and not sem_seg_postprocess_before_inference:
            raise ValueError(
                "MaskFormer: without semantic output, masks are resized before they are merged: "
                "set sem_seg_postprocess_before_inference, or turn on one of "
                "MODEL.MASK_FORMER.TEST.{SEMANTIC_ON,INSTANCE_ON,PANOPTIC_ON}."
            )
        self.num_queries = num_queries
        self.object_mask_threshold = object_mask_threshold
        self.overlap_threshold = overlap_threshold
        self.metadata = metadata
        self.sem_seg_postprocess_before_inference = sem_seg_postprocess_before_inference
        self.semantic_on = semantic_on
        self.panoptic_on = panoptic_on
        self.instance_on = instance_on
        self.test_topk_per_image = test_topk_per_image

    @classmethod
    def from_config(cls, cfg):
        test = cfg.MODEL.MASK_FORMER.TEST
        return {
            **cls.common_args(cfg),
            "num_queries": cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES,
            "object_mask_threshold": test.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": test.OVERLAP_THRESHOLD,
            "metadata": MetadataCatalog.get(cfg.DATASETS.TRAIN[0]) if cfg.DATASETS.TRAIN else None,
            "sem_seg_postprocess_before_inference": (
                test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE or test.PANOPTIC_ON or test.INSTANCE_ON
            ),
            "semantic_on": test.SEMANTIC_ON,
            "panoptic_on": test.PANOPTIC_ON,
            "instance_on": test.INSTANCE_ON,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train on a batch, or segment it.

        Args:
            batched_inputs: one dict an image: `image` (3, H, W); in training `instances` with
                `gt_classes` (N,) and `gt_masks` (N, H, W), and optionally `ignore` (H, W), True
                where pixels do not count; in eval optionally `height` and `width` of the output,
                in pixels (default: those of the image).

        Returns:
            in training the weighted losses by name. In eval one dict an image, with those wanted
            of `sem_seg`, scores (K, H, W); `panoptic_seg`, ids (H, W) with 0 for void, and a list
            of dicts with `id`, `isthing`, `category_id`; and `instances`, `Instances` with
            `pred_masks`, `pred_boxes`, `scores`, `pred_classes`.

        Raises:
            ValueError: training without `instances`.
        """
        images = self.preprocess([x["image"] for x in batched_inputs])
        outputs = self.predict(images.tensor)
        if self.training:
            targets = self.prepare_targets(batched_inputs, images)
            return self.weighted_losses(outputs, targets)
        padded = tuple(images.tensor.shape[-2:])
        results = []
        for i, (x, size) in enumerate(zip(batched_inputs, images.image_sizes)):
            size = tuple(int(n) for n in size)
            output = (int(x.get("height", size[0])), int(x.get("width", size[1])))
            results.append(
                retry_if_cuda_oom(self.segment)(
                    outputs["pred_logits"][i],
                    outputs["pred_masks"][i],
                    Canvas(padded, size, output),
                )
            )
        return results

    def prepare_targets(self, batched_inputs: list[dict], images: ImageList) -> list[dict]:
        """Labels and masks of every image, the masks padded to the canvas with background."""
        height, width = images.tensor.shape[-2:]
        targets = []
        for x in batched_inputs:
            if "instances" not in x:
                raise ValueError(
                    "MaskFormer: training needs `instances` with gt_classes and gt_masks for "
                    f"every image; {x.get('file_name', 'an input')} has none. Check that "
                    "INPUT.DATASET_MAPPER_NAME fits the data set."
                )
            instances = x["instances"].to(self.device)
            target = {
                "labels": instances.gt_classes,
                "masks": pad_mask(mask_tensor(instances.gt_masks), height, width, False),
            }
            if "ignore" in x:
                target["ignore"] = pad_mask(x["ignore"].to(self.device), height, width, True)
            targets.append(target)
        self.seed_targets(targets, batched_inputs)
        return targets

    def segment(self, class_logits: Tensor, mask_logits: Tensor, canvas: Canvas) -> dict:
        """The outputs wanted of one image, from (Q, K+1) and (Q, h, w); see `forward`."""
        late = not self.sem_seg_postprocess_before_inference
        work = Canvas(canvas.padded, canvas.padded, canvas.padded) if late else canvas
        class_logits = class_logits.float()
        mergers = self._mergers(class_logits, work.output)
        merge_masks(mask_logits, work, list(mergers.values()))
        result = {name: merger.result() for name, merger in mergers.items()}
        if late:  # the published order for semantic output alone: merge, then resize the scores
            result["sem_seg"] = resize(canvas.crop(result["sem_seg"]), canvas.output)
        return result

    def _mergers(self, class_logits: Tensor, size: tuple[int, int]) -> dict:
        mergers = {}
        if self.semantic_on:
            mergers["sem_seg"] = SemanticMerger(class_logits, size)
        is_thing = self._is_thing(class_logits.shape[-1] - 1) if self.panoptic_on else None
        if self.panoptic_on:
            mergers["panoptic_seg"] = PanopticMerger(
                class_logits, size, is_thing, self.object_mask_threshold, self.overlap_threshold
            )
        if self.instance_on:
            # Things are kept after the best pairs are chosen, so panoptic models find fewer.
            mergers["instances"] = InstanceMerger(
                class_logits, size, self.test_topk_per_image, is_thing
            )
        return mergers

    def _is_thing(self, num_classes: int) -> Tensor:
        """(K,), True for the classes that are things in the training set."""
        ids = self.metadata.get("thing_dataset_id_to_contiguous_id") if self.metadata else None
        if ids is None:
            raise ValueError(
                "MaskFormer: panoptic output needs to know which classes are things, from "
                "`thing_dataset_id_to_contiguous_id` in the metadata of DATASETS.TRAIN[0]; "
                f"{getattr(self.metadata, 'name', 'no data set')} has none."
            )
        table = torch.zeros(num_classes, dtype=torch.bool)
        table[[i for i in ids.values() if i < num_classes]] = True
        return table.to(self.device)


def _current_iteration() -> int:
    """The trainer's iteration, 0 outside of a training."""
    try:
        return get_event_storage().iter
    except AssertionError:  # detectron2's way of saying that there is none
        return 0


def _channels_last_pays(images: Tensor) -> bool:
    """Whether convolutions are faster with channels last, and safe: in a training on one thread,
    PyTorch 2.14's fallback for strided 1x1 convolutions writes past its memory then."""
    many_threads = torch.get_num_threads() > 1
    return images.device.type == "cpu" and (many_threads or not torch.is_grad_enabled())


def mask_tensor(masks) -> Tensor:
    """Masks as a bool tensor (N, H, W), from a tensor or detectron2's BitMasks."""
    return getattr(masks, "tensor", masks).bool()


def pad_mask(mask: Tensor, height: int, width: int, value: bool) -> Tensor:
    """Pad (..., H, W) right and below to a canvas."""
    pad = (0, width - mask.shape[-1], 0, height - mask.shape[-2])
    return nn.functional.pad(mask, pad, value=value)
