"""The meta-architecture for clips: the image model with a frame axis.

Source: Mask2Former for Video Instance Segmentation, Cheng et al. 2021.
"""

import torch
from detectron2.structures import ImageList, Instances
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from ...config.arguments import configurable, unless_default
from ...errors import UserError
from ...ops.masks import resize
from ...overrides import is_replaced, replaceable
from ...tracks.scores import PUBLISHED_SCORES, QueryScores
from ...tracks.windows import Windows
from ..postprocessing.canvas import Canvas
from ..registries import META_ARCH_REGISTRY
from ..tracking.clip_tracks import clip_result, joined_result
from ..tracking.windows import run_windows
from .base import SegmentationModel, mask_tensor, pad_to_canvas
from .inputs_in_errors import name_inputs

CLIP_LABELS = ("last_frame", "any_frame")
WHOLE_CLIP = Windows()


@META_ARCH_REGISTRY.register()
class VideoMaskFormer(SegmentationModel):
    """Instance segmentation and tracking of clips: a query is an object in all frames.

    Args:
        num_frames: T, frames of a training clip.
        clip_label: where an object's class is read: "last_frame" (published: objects that are
            absent there are trained as no-object) or "any_frame" (the first in which it appears).
        windows: how clips are cut in eval; by default they are not, as published.
        query_scores: how queries are scored in eval; by default by their class, as published.
        object_mask_threshold, overlap_threshold, sem_seg_postprocess_before_inference: kept for
            code that gives or reads them; without effect, as published.

    The others are those of `SegmentationModel`.

    Raises:
        UserError: an unknown clip_label, or windows with an `inference_video` from elsewhere,
            which makes results of whole clips.
    """

    @configurable
    def __init__(
        self,
        *,
        num_frames: int,
        clip_label: str = CLIP_LABELS[0],
        windows: Windows = WHOLE_CLIP,
        query_scores: QueryScores = PUBLISHED_SCORES,
        object_mask_threshold: float = 0.0,
        overlap_threshold: float = 0.0,
        sem_seg_postprocess_before_inference: bool = True,
        precision: str = "fp16",
        **common,
    ):
        super().__init__(precision=precision, **common)
        self.object_mask_threshold = object_mask_threshold
        self.overlap_threshold = overlap_threshold
        self.sem_seg_postprocess_before_inference = sem_seg_postprocess_before_inference
        if clip_label not in CLIP_LABELS:
            raise UserError(
                f"VideoMaskFormer: MODEL.MASK_FORMER.CLIP_LABEL is {clip_label!r}; it must be one "
                f"of {CLIP_LABELS}."
            )
        self.num_frames = num_frames
        self.clip_label = clip_label
        self.windows = windows
        self.query_scores = query_scores
        if windows.length:
            self.check_for_windows()

    def check_for_windows(self) -> None:
        """Raise a UserError if results are made by an `inference_video` from elsewhere."""
        if is_replaced(self, "inference_video"):
            raise UserError(
                f"{type(self).__name__} has an inference_video of its own, which takes whole clips "
                "and is not called for windows: set MODEL.MASK_FORMER.TEST.VIDEO_WINDOW to 0, or "
                "give the frames to Predictor.predict_clip instead of a VideoPredictor."
            )

    @classmethod
    def from_config(cls, cfg):
        test = cfg.MODEL.MASK_FORMER.TEST
        windows = Windows(test.VIDEO_WINDOW, test.VIDEO_OVERLAP)
        return {
            **cls.common_args(cfg),
            "num_frames": cfg.INPUT.SAMPLING_FRAME_NUM,
            "object_mask_threshold": test.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": test.OVERLAP_THRESHOLD,
            "sem_seg_postprocess_before_inference": test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE,
            **unless_default(
                cls,
                clip_label=cfg.MODEL.MASK_FORMER.CLIP_LABEL,
                windows=windows if windows.length else WHOLE_CLIP,
                query_scores=QueryScores(test.VIDEO_MASK_QUALITY, test.VIDEO_DUPLICATE_IOU),
            ),
        }

    @name_inputs
    def forward(self, batched_inputs: list[dict]) -> dict | list[dict]:
        """Train on a batch of clips, or segment and track them.

        Args:
            batched_inputs: one dict a clip: `image`, T frames (3, H, W); in training
                `instances`, T `Instances` with the same rows: `gt_classes`, `gt_masks` and
                `gt_ids`, -1 where an object is absent, and optionally `ignore`, T maps (H, W),
                True where pixels do not count; in eval optionally `height` and `width`.

        Returns:
            in training the weighted losses by name. In eval a dict with `image_size` (H, W),
            `pred_scores` and `pred_labels`, lists of floats and of contiguous classes, and
            `pred_masks`, a list of bool (T, H, W) on the CPU; a list of such dicts where the
            batch has several clips.

        Raises:
            UserError: training clips are not of the length the model is built for.
        """
        if self.training:
            return self.losses(batched_inputs)
        results = [self.segment_clip(clip) for clip in batched_inputs]
        return results[0] if len(results) == 1 else results

    def canvas_of(self, batched_inputs: list[dict]) -> ImageList:
        return self.preprocess([frame for clip in batched_inputs for frame in clip["image"]])

    def labels_of(self, batched_inputs: list[dict]) -> list[Tensor]:
        if is_replaced(self, "prepare_targets"):
            return super().labels_of(batched_inputs)
        return [self._labels_of_clip(clip["instances"])[0] for clip in batched_inputs]

    @replaceable
    def prepare_targets(self, targets: list[dict], images: ImageList) -> list[dict]:
        """Return the targets of the objects that appear in each clip, padded to the canvas.

        Args:
            targets: the inputs of `forward`; or the `Instances` of the frames of every clip.
            images: the canvas.

        Returns:
            one dict a clip with `labels` (N,), `masks` (N, T, H, W), bool, `ids` (N, T), -1 where
            an object is absent, and the options of an input (`target_options`).
        """
        prepared = []
        for x in targets:
            is_input = isinstance(x, dict)
            frames = [frame.to(self.device) for frame in (x["instances"] if is_input else x)]
            if len(frames) != self.num_frames:
                raise UserError(
                    f"VideoMaskFormer: a training clip has {len(frames)} frames, the model is "
                    f"built for {self.num_frames}; set INPUT.SAMPLING_FRAME_NUM for both."
                )
            labels, ids, keep = self._labels_of_clip(frames)
            masks = torch.stack([mask_tensor(frame.gt_masks) for frame in frames], 1)[keep]
            target = {"labels": labels, "ids": ids, "masks": pad_to_canvas(masks, images)}
            prepared.append(target | (self.target_options(x, images) if is_input else {}))
        return prepared

    def annotations(self, batched_inputs: list[dict]) -> list[dict]:
        """Return the batch, of which the published `prepare_targets` takes all."""
        return batched_inputs

    def _labels_of_clip(self, frames: list[Instances]) -> tuple[Tensor, Tensor, Tensor]:
        """Return classes (N,) and ids (N, T) of objects that appear, and which rows those are."""
        ids = torch.stack([frame.gt_ids for frame in frames], 1)
        classes = torch.stack([frame.gt_classes for frame in frames], 1)
        keep = (ids != -1).any(1)
        return self._labels(classes, ids != -1)[keep], ids[keep], keep

    def _labels(self, classes: Tensor, present: Tensor) -> Tensor:
        """Return one class (N,) for each object, from class and presence (N, T) in the frames."""
        if self.clip_label == "last_frame":
            return classes[:, -1]
        return classes.gather(1, present.int().argmax(1, keepdim=True))[:, 0]

    def segment_clip(self, clip: dict) -> dict:
        """Return the result of one clip; see `forward`."""
        frames = clip["image"]
        output = (int(clip["height"]), int(clip["width"])) if "height" in clip else None
        windows = run_windows(self, frames, self.windows, output)
        if self.windows.length and len(frames) > self.windows.length:
            self.check_for_windows()
            return joined_result(windows, self.query_scores)
        (whole,) = windows
        logits = whole.class_logits, whole.mask_logits
        if not is_replaced(self, "inference_video"):
            return retry_if_cuda_oom(clip_result)(*logits, whole.canvas, self.query_scores)
        return retry_if_cuda_oom(self._call_inference_video)(*logits, whole.canvas)

    def _call_inference_video(
        self, class_logits: Tensor, mask_logits: Tensor, canvas: Canvas
    ) -> dict:
        maps = resize(mask_logits.float().flatten(0, 1), canvas.padded)
        masks = maps.unflatten(0, mask_logits.shape[:2])
        return self.inference_video(class_logits, masks, canvas.image, *canvas.output)

    @replaceable
    def inference_video(
        self,
        pred_cls: Tensor,
        pred_masks: Tensor,
        img_size: tuple[int, int],
        output_height: int,
        output_width: int,
    ) -> dict:
        """Return the result of a whole clip; see `forward`.

        Args:
            pred_cls: class logits (Q, K+1).
            pred_masks: mask logits (Q, T, H, W) over the padded canvas.
            img_size: (H, W) of the frames on it.
            output_height, output_width: of the masks, in pixels.
        """
        padded = (pred_masks.shape[-2], pred_masks.shape[-1])
        canvas = Canvas(padded, tuple(img_size), (output_height, output_width))
        return clip_result(pred_cls, pred_masks, canvas, self.query_scores)
