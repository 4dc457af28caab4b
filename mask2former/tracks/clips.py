"""The tracks of a clip, as a stream over windows or as the whole clip's result."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np

from .linking import Objects, Track, TrackLinker
from .scores import (
    MAX_TRACKS,
    PUBLISHED_SCORES,
    QueryScores,
    best_tracks,
    iou_of_overlaps,
    mask_iou,
)

MAX_OBJECTS = 2 * MAX_TRACKS  # queries of a window that are followed, those of highest score

# A track is left out of a window in which its class has less than this fraction of its probability:
# windows give a query a mask even where its object is not visible.
_MIN_FRACTION = 0.25


class Window(Protocol):
    """What a model predicts for the T frames of a window; arrays are made as they are needed.

    Attributes:
        shared: frames at its start that the window before had too.
        length: T.
        size: (H, W) of the masks wanted.
    """

    @property
    def shared(self) -> int: ...

    @property
    def length(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def scores(self, query_scores: QueryScores) -> np.ndarray:
        """Return scores (Q, K), without no-object."""

    def objects(self, queries: np.ndarray, scores: np.ndarray) -> Objects:
        """Return what n queries are linked by, with masks at any resolution."""

    def masks(self, queries: np.ndarray, t: int) -> np.ndarray:
        """Return the masks (n, *size), bool, of queries in frame t of the window."""

    def sums(self, queries: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums (n,) of the probabilities inside the masks in frame t, and the areas
        (n,), at any resolution."""


@dataclass(frozen=True)
class TrackedWindow:
    """The objects of a window, N queries, and the tracks that they belong to.

    Attributes:
        window: what the model predicts.
        queries: (N,), ascending.
        tracks: N, as they are up to this window.
        shown: N, whether the object is visible in the window.
    """

    window: Window
    queries: np.ndarray
    tracks: list[Track]
    shown: list[bool]

    def masks(self, t: int, chosen: Sequence[int]) -> np.ndarray:
        """Return masks (n, *size), bool, of objects in frame t of the window."""
        return self.window.masks(self.queries[list(chosen)], t)


def track_windows(
    windows: Iterable[Window], query_scores: QueryScores = PUBLISHED_SCORES
) -> Iterator[TrackedWindow]:
    """Link the objects of windows to tracks.

    Args:
        windows: of one clip, in order.
        query_scores: how queries are scored; tracks have the mean over their windows.
    """
    linker = TrackLinker()
    for window in windows:
        scores = window.scores(query_scores)
        queries = np.sort(np.argsort(-scores.max(1), kind="stable")[:MAX_OBJECTS])
        objects = window.objects(queries, scores[queries])
        tracks = linker.update(objects, window.shared)
        mean = np.stack([track.class_probs for track in tracks])
        label = mean.argmax(1)
        now = objects.class_probs[np.arange(len(queries)), label]
        shown = now >= _MIN_FRACTION * mean.max(1)
        yield TrackedWindow(window, queries, tracks, shown.tolist())


def joined_result(
    windows: Iterable[Window], query_scores: QueryScores = PUBLISHED_SCORES
) -> dict[str, Any]:
    """Return the best tracks of a clip that is several windows, in the form of `best_tracks`.

    Classes are those of `Track`; masks are those of the first window that has the frame, and
    scores take the quality and overlap of the joined masks, as in a clip that is one window.
    """
    rows: dict[Track, int] = {}
    frames: list[dict[int, np.ndarray]] = []  # masks by row, one bit a pixel
    sums = []
    for tracked in track_windows(windows):
        window, size = tracked.window, tracked.window.size
        chosen = [i for i, shown in enumerate(tracked.shown) if shown]
        seen = [rows.setdefault(tracked.tracks[i], len(rows)) for i in chosen]
        for t in range(window.shared, window.length):
            masks = tracked.masks(t, chosen).reshape(len(chosen), size[0] * size[1])
            frames.append(dict(zip(seen, np.packbits(masks, axis=1))))
            if query_scores.uses_masks:
                inside = masks.astype(np.float32)
                sums.append((seen, *window.sums(tracked.queries[chosen], t), inside @ inside.T))
    probs = np.stack([track.class_probs for track in rows])
    if sums:
        probs = query_scores.weigh(probs, *_quality_and_iou(sums, len(rows)))
    return best_tracks(size, probs, lambda row: _unpack(frames, row, size))


def _quality_and_iou(sums: Sequence[tuple], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probability inside each track's masks (N,) and the IoU of all pairs (N, N).

    Args:
        sums: of each frame the n rows that it shows, what `Window.sums` returns for them, and the
            pixels of the output that all pairs share (n, n).
        count: N.
    """
    total, area = np.zeros((2, count), np.float32)
    shared = np.zeros((count, count), np.float32)
    for seen, frame_total, frame_area, frame_shared in sums:
        total[seen] += frame_total
        area[seen] += frame_area
        shared[np.ix_(seen, seen)] += frame_shared
    own = shared.diagonal()
    return total / np.maximum(area, 1), iou_of_overlaps(shared, own, own)


def _unpack(frames: Sequence[dict[int, np.ndarray]], row: int, size: tuple[int, int]) -> np.ndarray:
    """Return the masks (T, *size), bool, of one row; empty in frames without one."""
    masks = np.zeros((len(frames), *size), bool)
    for mask, bits in zip(masks, frames):
        if row in bits:
            mask[:] = np.unpackbits(bits[row], count=mask.size).view(bool).reshape(size)
    return masks


def follow(
    windows: Iterable[Window],
    query_scores: QueryScores = PUBLISHED_SCORES,
    *,
    score_threshold: float = 0.0,
    max_overlap: float = 1.0,
) -> Iterator[tuple[list[Track], np.ndarray]]:
    """Yield for each frame the tracks that it shows, which have ids, and their masks (N, H, W).

    Args:
        windows, query_scores: see `track_windows`.
        score_threshold: objects of a lower score are left out, in 0..1.
        max_overlap: of objects whose masks in the frame have a higher IoU, the best is kept.
    """
    ids = count(1)
    for tracked in track_windows(windows, query_scores):
        shown = [
            i
            for i, track in enumerate(tracked.tracks)
            if tracked.shown[i] and float(track.class_probs.max()) >= score_threshold
        ]
        for t in range(tracked.window.shared, tracked.window.length):
            masks = tracked.masks(t, shown)
            tracks = [tracked.tracks[i] for i in shown]
            scores = [float(track.class_probs.max()) for track in tracks]
            kept = choose_masks(scores, masks, max_overlap)
            tracks = [tracks[i] for i in kept]
            for track in tracks:
                track.id = track.id or next(ids)
            yield tracks, masks[kept]


def choose_masks(scores: Sequence[float], masks: np.ndarray, max_overlap: float) -> list[int]:
    """Return the indices of masks (N, H, W) that are not empty and repeat no better one."""
    visible = np.flatnonzero(masks.any((1, 2))).tolist()
    if max_overlap >= 1 or len(visible) < 2:
        return visible
    iou = mask_iou(masks[visible], masks[visible])
    kept: list[int] = []
    for i in sorted(range(len(visible)), key=lambda i: -scores[visible[i]]):
        if all(iou[i, j] <= max_overlap for j in kept):
            kept.append(i)
    return [visible[i] for i in sorted(kept)]
