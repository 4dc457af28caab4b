"""From a stream of frames to a stream of predictions."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..modeling.meta_arch.video import VideoMaskFormer
from ..modeling.tracking.frame_tracker import FrameTracker
from ..modeling.tracking.windows import run_windows
from ..ops.masks import mask_boxes
from ..tracks.clips import follow
from ..tracks.linking import Track
from ..tracks.windows import Windows
from .image import ImageLike, Predictor


class VideoPredictor(Predictor):
    """A model with its weights, which takes the frames of a video as they come.

    Models for video segment windows of frames and join their tracks; models for images segment
    frame by frame, and what overlaps in frames that follow each other keeps its id. Memory depends
    on the window and the size of the frames, not on their number.

    Example:
        >>> predictor = VideoPredictor(cfg, "model_final.pth", window=16, score_threshold=0.5)
        >>> for result in predictor(frames):
        ...     print(result["instances"].track_ids)
    """

    def __init__(
        self,
        cfg: CfgNode | str,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        array_format: str = "BGR",
        *,
        window: int | None = None,
        overlap: int | None = None,
        score_threshold: float = 0.0,
        max_overlap: float = 1.0,
    ) -> None:
        """
        Args:
            cfg, weights, device, array_format: as for `Predictor`.
            window: frames of a window, for models for video; 0 for the whole clip, which gives
                the published result and keeps all of it in memory. None for the config's
                (MODEL.MASK_FORMER.TEST.VIDEO_WINDOW), or 16 where that is 0.
            overlap: frames that a window shares with the one before; None for the config's
                (VIDEO_OVERLAP), or what the window has room for.
            score_threshold: objects of a lower score are left out, in 0..1.
            max_overlap: of objects whose masks in a frame have a higher IoU than this, a model for
                video keeps the one of the best score; in 0..1. As published, 1 keeps all.

        Raises:
            UserError: windows that share no frame or are all overlap, or a model for video with
                an `inference_video` of its own; else as `Predictor`.
        """
        super().__init__(cfg, weights, device, array_format)
        test = self.cfg.MODEL.MASK_FORMER.TEST
        self.windows = Windows.of_stream(test.VIDEO_WINDOW, test.VIDEO_OVERLAP, window, overlap)
        self.score_threshold = score_threshold
        self.max_overlap = max_overlap
        self.is_video_model = isinstance(self.model, VideoMaskFormer)
        if self.is_video_model:
            self.model.check_for_windows()

    def __call__(self, frames: Iterable[ImageLike]) -> Iterator[dict[str, Any]]:
        """Predict the frames of one video.

        Args:
            frames: images of one size, as `Predictor` takes them; read once, in their order, and
                never further ahead than a window.

        Yields:
            one dict a frame, with "instances": `Instances` of the frame's size with `pred_masks`
            (N, H, W) bool, `pred_boxes`, `scores`, `pred_classes` and `track_ids` (N,), from 1 on;
            from models for video on the CPU. A score and a class are the mean of all windows up to
            that of the frame. Models for images give what the config turns on, see
            `FrameTracker.update`.

        Raises:
            UserError: there is no frame, or one has another size than the first; as well as what
                `Predictor` raises.
        """
        prepared = self._prepare_frames(frames)
        first = next(prepared)
        inputs = chain([first], prepared)
        size = (first["height"], first["width"])
        return self._track(inputs, size) if self.is_video_model else self._each(inputs)

    @torch.no_grad()
    def _each(self, inputs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the results of a model for images."""
        num_classes = self.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        tracker = FrameTracker(num_classes, self.score_threshold)
        for prepared in inputs:
            yield tracker.update(self.model([prepared])[0])

    @torch.no_grad()
    def _track(
        self, inputs: Iterable[dict[str, Any]], size: tuple[int, int]
    ) -> Iterator[dict[str, Any]]:
        """Yield the results of a model for video, of size (H, W)."""
        images = (prepared["image"] for prepared in inputs)
        windows = run_windows(self.model, images, self.windows, size)
        thresholds = {"score_threshold": self.score_threshold, "max_overlap": self.max_overlap}
        for tracks, masks in follow(windows, self.model.query_scores, **thresholds):
            yield {"instances": _instances(tracks, torch.from_numpy(masks))}


def _instances(tracks: Sequence[Track], masks: Tensor) -> Instances:
    """Return what one frame shows of tracks, with masks (N, H, W)."""
    instances = Instances(tuple(masks.shape[-2:]))
    instances.pred_masks = masks
    instances.pred_boxes = Boxes(mask_boxes(masks))
    instances.scores = torch.tensor([float(track.class_probs.max()) for track in tracks])
    classes = [int(track.class_probs.argmax()) for track in tracks]
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    instances.track_ids = torch.tensor([track.id for track in tracks], dtype=torch.int64)
    return instances
