"""Tracks of a clip that was cut into windows, as a stream or as the result of the whole clip."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..postprocessing.canvas import Canvas
from ..postprocessing.mergers import top_pairs
from .linking import Objects, Track, TrackLinker
from .query_scores import PUBLISHED_SCORES, QueryScores, confidence_inside, iou_of_overlaps
from .windows import Window

MAX_TRACKS = 10  # of a clip, as published
MAX_OBJECTS = 2 * MAX_TRACKS  # queries of a window that are followed

# A track is left out of a window in which its class has less than this fraction of its probability:
# windows give a query a mask even where its object is not visible.
_MIN_FRACTION = 0.25

_BITS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1)


@dataclass(frozen=True)
class TrackedWindow:
    """The objects of a window, N queries, and the tracks that they belong to.

    Attributes:
        window: what the model predicts.
        queries: (N,).
        tracks: N, as they are up to this window.
        shown: N, whether the object is visible in the window.
    """

    window: Window
    queries: Tensor
    tracks: list[Track]
    shown: list[bool]

    def masks(self, t: int, chosen: Sequence[int]) -> Tensor:
        """Return masks (n, *output), bool, on the CPU, of objects in frame t of the window."""
        logits = self.window.mask_logits[self.queries[list(chosen)], t]
        return output_masks(logits, self.window.canvas)


def track_windows(
    windows: Iterable[Window],
    linker: TrackLinker,
    max_objects: int = MAX_OBJECTS,
    query_scores: QueryScores = PUBLISHED_SCORES,
) -> Iterator[TrackedWindow]:
    """Link the objects of windows to tracks.

    Args:
        windows: of one clip, in order.
        linker: a new one.
        max_objects: queries of a window that are followed, those of highest score.
        query_scores: how queries are scored; tracks have the mean over their windows.
    """
    for window in windows:
        probs = query_scores(window.class_logits, window.mask_logits)
        best = probs.max(-1).values
        queries = best.topk(min(max_objects, len(best))).indices.sort().values
        embeddings = None if window.embeddings is None else window.embeddings[queries].float()
        objects = Objects(window.mask_logits[queries] > 0, probs[queries], embeddings)
        tracks = linker.update(objects, window.shared)
        labels = torch.stack([t.class_probs for t in tracks])
        top, label = labels.max(1)
        now = objects.class_probs.gather(1, label[:, None])[:, 0]
        yield TrackedWindow(window, queries, tracks, (now >= _MIN_FRACTION * top).tolist())


def clip_result(
    class_logits: Tensor,
    mask_logits: Tensor,
    canvas: Canvas,
    query_scores: QueryScores = PUBLISHED_SCORES,
) -> dict:
    """Return the best tracks of a clip that is one window, as published.

    Args:
        class_logits: (Q, K+1).
        mask_logits: (Q, T, h, w), over the padded canvas.
        canvas: says what the masks are resized to.
        query_scores: how queries are scored; as published, by class probabilities alone.

    Returns:
        see `VideoMaskFormer.forward`.
    """
    scores, queries, labels = top_pairs(query_scores(class_logits, mask_logits), MAX_TRACKS)
    masks = {}
    for query in set(queries.tolist()):  # a query may appear with several classes
        frames = mask_logits[query].float()
        masks[query] = torch.cat([output_masks(frame[None], canvas) for frame in frames])
    return _result(canvas, scores, labels, [masks[query] for query in queries.tolist()])


def joined_result(
    windows: Iterable[Window], linker: TrackLinker, query_scores: QueryScores = PUBLISHED_SCORES
) -> dict:
    """Return the best tracks of a clip that is several windows, in the form of `clip_result`.

    Classes are those of `Track`; masks are those of the first window that has the frame, and
    scores take the quality and overlap of the joined masks, as in a clip that is one window.
    """
    tubes: dict[Track, _Tube] = {}
    for tracked in track_windows(windows, linker):
        window = tracked.window
        chosen = [i for i, shown in enumerate(tracked.shown) if shown]
        for t in range(window.shared, window.length):
            logits = window.mask_logits[tracked.queries[chosen], t]
            total, area = confidence_inside(logits), (logits > 0).flatten(1).sum(1)
            for i, *found in zip(
                chosen, output_masks(logits, window.canvas), total.tolist(), area.tolist()
            ):
                tubes.setdefault(tracked.tracks[i], _Tube()).add(window.start + t, *found)
    tracks, length = list(tubes), window.start + window.length
    probs = torch.stack([track.class_probs for track in tracks])
    if query_scores.uses_masks:
        quality = probs.new_tensor([tube.quality for tube in tubes.values()])
        probs = query_scores.weigh(probs, quality, _iou(list(tubes.values())))
    scores, rows, labels = top_pairs(probs, MAX_TRACKS)
    size = window.canvas.output
    whole = {i: tubes[tracks[i]].stack(length, size) for i in set(rows.tolist())}
    return _result(window.canvas, scores, labels, [whole[i] for i in rows.tolist()])


def output_masks(mask_logits: Tensor, canvas: Canvas) -> Tensor:
    """Return binary masks (N, *canvas.output) on the CPU, of logits (N, h, w)."""
    if not len(mask_logits):
        return torch.zeros(0, *canvas.output, dtype=torch.bool)
    return (canvas.resize_to_output(mask_logits.float()) > 0).cpu()


def _result(canvas: Canvas, scores: Tensor, labels: Tensor, masks: list[Tensor]) -> dict:
    return {
        "image_size": canvas.output,
        "pred_scores": scores.tolist(),
        "pred_labels": labels.tolist(),
        "pred_masks": masks,
    }


class _Tube:
    """The masks of a track, one bit a pixel, and the sum of the probabilities inside them."""

    def __init__(self) -> None:
        self.bits: dict[int, np.ndarray] = {}
        self.total = self.area = 0.0

    def add(self, frame: int, mask: Tensor, total: float, area: float) -> None:
        """Add the mask (H, W) of a frame, unless it is empty, the sum of the probabilities inside
        it and its area, both in pixels of the logits."""
        if mask.any():
            self.bits[frame] = np.packbits(mask.numpy(), axis=None)
        self.total += total
        self.area += area

    @property
    def quality(self) -> float:
        """The mean probability inside all masks."""
        return self.total / max(self.area, 1)

    def stack(self, length: int, size: tuple[int, int]) -> Tensor:
        """Return all masks, (length, H, W), bool; empty in frames without one."""
        masks = torch.zeros(length, *size, dtype=torch.bool)
        for frame, bits in self.bits.items():
            flat = np.unpackbits(bits, count=size[0] * size[1]).view(bool)
            masks[frame] = torch.from_numpy(flat).view(size)
        return masks


def _iou(tubes: Sequence[_Tube]) -> Tensor:
    """Return the IoU of all pairs of N tubes, (N, N); 0 where both are empty."""
    shared = np.zeros((len(tubes), len(tubes)))
    for frame in {frame for tube in tubes for frame in tube.bits}:
        rows = [i for i, tube in enumerate(tubes) if frame in tube.bits]
        bits = np.stack([tubes[i].bits[frame] for i in rows])
        for i, row in zip(rows, bits):
            shared[i, rows] += _BITS_OF_BYTE[bits & row].sum(1)
    area = torch.from_numpy(shared.diagonal().copy())
    return iou_of_overlaps(torch.from_numpy(shared), area, area).float()
