"""The meta-architecture for clips: the image model with a frame axis.

Source: Mask2Former for Video Instance Segmentation, Cheng et al. 2021.
"""

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from ..tracking.clip_tracks import PUBLISHED_SCORES, QueryScores, clip_result, joined_result
from ..tracking.windows import Windows, run_windows
from .base import SegmentationModel, mask_tensor

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

    The others are those of `SegmentationModel`.

    Raises:
        ValueError: an unknown clip_label.
    """

    @configurable
    def __init__(
        self,
        *,
        num_frames: int,
        clip_label: str,
        windows: Windows = WHOLE_CLIP,
        query_scores: QueryScores = PUBLISHED_SCORES,
        **common,
    ):
        super().__init__(**common)
        if clip_label not in CLIP_LABELS:
            raise ValueError(
                f"VideoMaskFormer: MODEL.MASK_FORMER.CLIP_LABEL is {clip_label!r}; it must be one "
                f"of {CLIP_LABELS}."
            )
        self.num_frames = num_frames
        self.clip_label = clip_label
        self.windows = windows
        self.query_scores = query_scores

    @classmethod
    def from_config(cls, cfg):
        test = cfg.MODEL.MASK_FORMER.TEST
        return {
            **cls.common_args(cfg),
            "num_frames": cfg.INPUT.SAMPLING_FRAME_NUM,
            "clip_label": cfg.MODEL.MASK_FORMER.CLIP_LABEL,
            "windows": Windows(test.VIDEO_WINDOW, test.VIDEO_OVERLAP),
            "query_scores": QueryScores(test.VIDEO_MASK_QUALITY, test.VIDEO_DUPLICATE_IOU),
        }

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
            ValueError: training clips are not of the length the model is built for.
        """
        if self.training:
            images = self.preprocess([frame for clip in batched_inputs for frame in clip["image"]])
            targets = self.prepare_targets(batched_inputs, images)
            return self.weigh(self.criterion(self.predict(images.tensor), targets))
        results = [self.segment_clip(clip) for clip in batched_inputs]
        return results[0] if len(results) == 1 else results

    def prepare_targets(self, batched_inputs: list[dict], images: ImageList) -> list[dict]:
        """Return labels (N,) and masks (N, T, H, W) of the objects that appear in each clip."""
        targets = []
        for clip in batched_inputs:
            frames = [x.to(self.device) for x in clip["instances"]]
            if len(frames) != self.num_frames:
                raise ValueError(
                    f"VideoMaskFormer: a training clip has {len(frames)} frames, the model is "
                    f"built for {self.num_frames}; set INPUT.SAMPLING_FRAME_NUM for both."
                )
            present = torch.stack([x.gt_ids != -1 for x in frames], 1)  # (N, T)
            keep = present.any(1)
            classes = torch.stack([x.gt_classes for x in frames], 1)
            masks = torch.stack([mask_tensor(x.gt_masks) for x in frames], 1)
            labels = self._labels(classes, present)[keep]
            ignore = torch.stack(list(clip["ignore"])) if "ignore" in clip else None
            targets.append(self.make_target(clip, images, labels, masks[keep], ignore))
        return targets

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
            return joined_result(windows, self.query_scores)
        (whole,) = windows
        return retry_if_cuda_oom(clip_result)(
            whole.class_logits, whole.mask_logits, whole.canvas, self.query_scores
        )
