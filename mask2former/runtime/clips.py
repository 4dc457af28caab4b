"""Videos of any length through an exported model: windows of frames, and frame by frame."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from ..errors import UserError
from ..tracks.clips import follow, joined_result
from ..tracks.frames import FrameIds
from ..tracks.scores import QueryScores
from ..tracks.windows import Windows
from .images import to_batch
from .metadata import Metadata
from .postprocessing.clips import ClipWindow, instances_of
from .session import Session


class ClipRunner:
    """Runs a video model over frames, which are read once and never further ahead than a window.

    Args:
        metadata: of the file, with the options that are used.
        session: of the file.
    """

    def __init__(self, metadata: Metadata, session: Session):
        self.metadata = metadata
        self.session = session
        self.query_scores = QueryScores(metadata.mask_quality, metadata.duplicate_iou)

    def predict(self, frames: Iterable[np.ndarray]) -> dict[str, Any]:
        """Return the best tracks of a clip; see `Runtime.predict_clip`."""
        images = list(of_one_size(frames))
        length = self.metadata.window
        if length and len(images) > length:
            windows = Windows(length, self.metadata.window_overlap)
            return joined_result(self._run(images, windows), self.query_scores)
        (window,) = self._run(images, Windows())
        return window.result(self.query_scores)

    def follow(
        self, frames: Iterable[np.ndarray], windows: Windows, **thresholds: float
    ) -> Iterator[dict[str, Any]]:
        """Return an iterator over the results of frames; `thresholds` are those of
        `tracks.clips.follow`."""
        found = follow(self._run(of_one_size(frames), windows), self.query_scores, **thresholds)
        return ({"instances": instances} for instances in instances_of(found))

    def _run(self, images: Iterable[np.ndarray], windows: Windows) -> Iterator[ClipWindow]:
        """Yield what the file gives for each window of frames (H, W, 3)."""
        for shared, window in windows.cut(images):
            batch, canvases = to_batch(window, self.metadata, self.session.dtype)
            class_logits, mask_logits, *embeddings = self.session(images=batch)
            yield ClipWindow(shared, class_logits, mask_logits, canvases[0], *embeddings)


def of_one_size(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Return an iterator over frames (H, W, 3), the first of which has been read.

    Raises:
        UserError: there is none; or, in the iterator, one has another size than the first.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        raise UserError("expected the frames of a video, got no frame")

    def checked() -> Iterator[np.ndarray]:
        for i, frame in enumerate(chain([first], source)):
            if frame.shape != first.shape:
                sizes = (f"{f.shape[1]}x{f.shape[0]}" for f in (frame, first))
                raise UserError(
                    "expected the frames of a video, of one size, got {1}, and {0} for frame "
                    "{2}".format(*sizes, i)
                )
            yield frame

    return checked()


def with_ids(
    results: Iterable[Mapping[str, Any]], num_classes: int, score_threshold: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Yield the results of the frames of a video with ids that stay with their objects.

    Args:
        results: of a model for images, as `Runtime.__call__` returns them.
        num_classes: K.
        score_threshold: instances of a lower score are left out, in 0..1.
    """
    ids = FrameIds(num_classes)
    for found in results:
        result = dict(found)
        if "instances" in result:
            instances = result["instances"][result["instances"].scores >= score_threshold]
            numbers = ids.of_instances(instances.pred_masks, instances.pred_classes)
            result["instances"] = replace(instances, track_ids=numbers)
        if "panoptic_seg" in result:
            result["panoptic_seg"] = ids.of_segments(*result["panoptic_seg"])
        yield result
