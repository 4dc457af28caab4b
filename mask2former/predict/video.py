"""From a stream of frames to a stream of predictions."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..modeling.meta_arch.video import VideoMaskFormer
from ..modeling.tracking.clip_tracks import track_windows
from ..modeling.tracking.frame_tracker import FrameTracker
from ..modeling.tracking.linking import Track, mask_iou
from ..modeling.tracking.windows import Windows, run_windows
from ..ops.masks import mask_boxes
from .image import ImageLike, Predictor

DEFAULT_WINDOW = 16  # frames, where the config has no window: a stream may have no end


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
        if window is None:
            window = test.VIDEO_WINDOW or DEFAULT_WINDOW
        if overlap is None:
            overlap = max(1, min(test.VIDEO_OVERLAP, window // 2)) if window else 0
        self.windows = Windows(window, overlap)
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
        ids = count(1)
        windows = run_windows(self.model, images, self.windows, size)
        scores = self.model.query_scores
        for tracked in track_windows(windows, scores):
            shown = [
                i
                for i, track in enumerate(tracked.tracks)
                if tracked.shown[i] and float(track.class_probs.max()) >= self.score_threshold
            ]
            for t in range(tracked.window.shared, tracked.window.length):
                masks = tracked.masks(t, shown)
                tracks = [tracked.tracks[i] for i in shown]
                kept = _choose_masks(tracks, masks, self.max_overlap)
                tracks = [tracks[i] for i in kept]
                for track in tracks:
                    track.id = track.id or next(ids)
                yield {"instances": _instances(tracks, masks[kept])}


def _choose_masks(tracks: Sequence[Track], masks: Tensor, max_overlap: float) -> list[int]:
    """Return the indices of masks (N, H, W) that are not empty and repeat no better one."""
    visible = masks.flatten(1).any(1).nonzero()[:, 0].tolist()
    if max_overlap >= 1 or len(visible) < 2:
        return visible
    iou = mask_iou(masks[visible], masks[visible])
    scores = [float(tracks[i].class_probs.max()) for i in visible]
    kept: list[int] = []
    for i in sorted(range(len(visible)), key=lambda i: -scores[i]):
        if all(iou[i, j] <= max_overlap for j in kept):
            kept.append(i)
    return [visible[i] for i in sorted(kept)]


def _instances(tracks: Sequence[Track], masks: Tensor) -> Instances:
    """Return what one frame shows of tracks, with masks (N, H, W)."""
    best = [track.class_probs.max(0) for track in tracks]
    instances = Instances(tuple(masks.shape[-2:]))
    instances.pred_masks = masks
    instances.pred_boxes = Boxes(mask_boxes(masks))
    instances.scores = torch.tensor([float(b.values) for b in best])
    instances.pred_classes = torch.tensor([int(b.indices) for b in best], dtype=torch.int64)
    instances.track_ids = torch.tensor([track.id for track in tracks], dtype=torch.int64)
    return instances
