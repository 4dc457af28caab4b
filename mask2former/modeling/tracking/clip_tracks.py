"""Tracks of a clip and their scores, as a stream over windows or as the whole clip's result."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..postprocessing.canvas import Canvas
from ..postprocessing.mergers import top_pairs
from .linking import Objects, Track, TrackLinker, iou_of_overlaps
from .windows import Window

MAX_TRACKS = 10  # of a clip, as published
MAX_OBJECTS = 2 * MAX_TRACKS  # queries of a window that are followed, those of highest score

# A track is left out of a window in which its class has less than this fraction of its probability:
# windows give a query a mask even where its object is not visible.
_MIN_FRACTION = 0.25


@dataclass(frozen=True)
class QueryScores:
    """What a query's class probabilities are multiplied by before the best are taken.

    The published video model takes the class probability alone, and two queries on one object both
    count. Either option changes scores, never a mask.

    Args:
        mask_quality: multiply by the mean probability of the pixels inside the mask, as the image
            model does (Mask2Former, Cheng et al. 2022, appendix).
        duplicate_iou: queries whose masks overlap a better one's by more than this IoU, whatever
            their class, count by 1 - IoU of their score: linear Soft-NMS (Bodla et al. 2017,
            equation 3) over whole tubes. 1 for none.

    Raises:
        UserError: duplicate_iou is not in 0..1.
    """

    mask_quality: bool = False
    duplicate_iou: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.duplicate_iou <= 1:
            raise UserError(
                "MODEL.MASK_FORMER.TEST.VIDEO_DUPLICATE_IOU: expected an IoU in 0..1 (1: "
                f"duplicates count in full, as published), got {self.duplicate_iou}."
            )

    @torch.no_grad()
    def __call__(self, class_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """Return scores (Q, K) from logits (Q, K+1) and (Q, T, h, w); no-object has none."""
        probs = class_logits.float().softmax(-1)[:, :-1]
        if not self.uses_masks:
            return probs
        total, shared = (sum(parts) for parts in zip(*map(mask_sums, mask_logits.unbind(1))))
        area = shared.diagonal()
        return self.weigh(probs, total / area.clamp(min=1), iou_of_overlaps(shared, area, area))

    @property
    def uses_masks(self) -> bool:
        """Whether anything but classes counts."""
        return self.mask_quality or self.duplicate_iou < 1

    def weigh(self, probs: Tensor, quality: Tensor, iou: Tensor) -> Tensor:
        """Return scores (Q, K) from class probabilities (Q, K), the quality (Q,) of the masks and
        the IoU of all pairs (Q, Q)."""
        if self.mask_quality:
            probs = probs * quality[:, None]
        if self.duplicate_iou < 1:
            probs = probs * soft_nms(probs.amax(1), iou, self.duplicate_iou)[:, None]
        return probs


PUBLISHED_SCORES = QueryScores()


def soft_nms(scores: Tensor, iou: Tensor, threshold: float) -> Tensor:
    """Return the factors (Q,), in 0..1, by which linear Soft-NMS lowers the scores.

    Args:
        scores: (Q,), not negative.
        iou: (Q, Q).
        threshold: IoU above which the lower of two scores is multiplied by 1 - IoU.
    """
    overlaps, rest = iou.cpu(), scores.cpu().clone()
    factors = torch.ones_like(rest)
    for _ in range(len(rest)):
        best = int(rest.argmax())
        rest[best] = -1  # chosen; no longer lowered
        lower = torch.where(overlaps[best] > threshold, 1 - overlaps[best], 1.0)
        lower[rest < 0] = 1
        rest *= lower
        factors *= lower
    return factors.to(scores.device)


def mask_sums(mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return, of one frame of logits (N, h, w), the sum (N,) of the probabilities inside each mask,
    and the number of pixels (N, N) that all pairs share; on the diagonal are the areas."""
    logits = mask_logits.flatten(1).float()
    inside = (logits > 0).float()
    return (logits.sigmoid() * inside).sum(1), inside @ inside.T


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
    windows: Iterable[Window], query_scores: QueryScores = PUBLISHED_SCORES
) -> Iterator[TrackedWindow]:
    """Link the objects of windows to tracks.

    Args:
        windows: of one clip, in order.
        query_scores: how queries are scored; tracks have the mean over their windows.
    """
    linker = TrackLinker()
    for window in windows:
        probs = query_scores(window.class_logits, window.mask_logits)
        best = probs.max(-1).values
        queries = best.topk(min(MAX_OBJECTS, len(best))).indices.sort().values
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

    def masks_of(query: int) -> Tensor:
        frames = mask_logits[query].float()
        return torch.cat([output_masks(frame[None], canvas) for frame in frames])

    return _result(canvas.output, query_scores(class_logits, mask_logits), masks_of)


def joined_result(windows: Iterable[Window], query_scores: QueryScores = PUBLISHED_SCORES) -> dict:
    """Return the best tracks of a clip that is several windows, in the form of `clip_result`.

    Classes are those of `Track`; masks are those of the first window that has the frame, and
    scores take the quality and overlap of the joined masks, as in a clip that is one window.
    """
    rows: dict[Track, int] = {}
    frames: list[dict[int, np.ndarray]] = []  # masks by row, one bit a pixel
    sums = []
    for tracked in track_windows(windows):
        window = tracked.window
        chosen = [i for i, shown in enumerate(tracked.shown) if shown]
        seen = [rows.setdefault(tracked.tracks[i], len(rows)) for i in chosen]
        for t in range(window.shared, window.length):
            logits = window.mask_logits[tracked.queries[chosen], t]
            masks = output_masks(logits, window.canvas).flatten(1)
            frames.append(dict(zip(seen, np.packbits(masks.numpy(), axis=1))))
            if query_scores.uses_masks:
                total, shared = mask_sums(logits)
                inside = masks.float()
                sums.append((seen, total, shared.diagonal(), inside @ inside.T))
    probs = torch.stack([track.class_probs for track in rows])
    if sums:
        probs = query_scores.weigh(probs, *_quality_and_iou(sums, len(rows)))
    size = window.canvas.output
    return _result(size, probs, lambda row: _unpack(frames, row, size))


def _quality_and_iou(sums: Sequence[tuple], count: int) -> tuple[Tensor, Tensor]:
    """Return the mean probability inside each track's masks (N,) and the IoU of all pairs (N, N).

    Args:
        sums: of each frame the n rows that it shows, the sum of the probabilities inside each mask
            (n,) and its area (n,), of the logits; and the pixels of the output that all pairs
            share (n, n).
        count: N.
    """
    device = sums[0][1].device
    total, area = torch.zeros(2, count, device=device)
    shared = torch.zeros(count, count)
    for seen, frame_total, frame_area, frame_shared in sums:
        total[seen] += frame_total
        area[seen] += frame_area
        shared[np.ix_(seen, seen)] += frame_shared
    own = shared.diagonal()
    return total / area.clamp(min=1), iou_of_overlaps(shared, own, own)


def output_masks(mask_logits: Tensor, canvas: Canvas) -> Tensor:
    """Return binary masks (N, *canvas.output) on the CPU, of logits (N, h, w)."""
    if not len(mask_logits):
        return torch.zeros(0, *canvas.output, dtype=torch.bool)
    return (canvas.resize_to_output(mask_logits.float()) > 0).cpu()


def _result(
    size: tuple[int, int], probs: Tensor, masks_of: Callable[[int], Tensor]
) -> dict[str, Any]:
    """Return the best of N tracks, given scores (N, K) and what makes the masks of a row."""
    scores, rows, labels = top_pairs(probs, MAX_TRACKS)
    masks = {row: masks_of(row) for row in set(rows.tolist())}  # several classes may share one
    return {
        "image_size": size,
        "pred_scores": scores.tolist(),
        "pred_labels": labels.tolist(),
        "pred_masks": [masks[row] for row in rows.tolist()],
    }


def _unpack(frames: Sequence[dict[int, np.ndarray]], row: int, size: tuple[int, int]) -> Tensor:
    """Return the masks (T, *size), bool, of one row; empty in frames without one."""
    masks = torch.zeros(len(frames), *size, dtype=torch.bool)
    for mask, bits in zip(masks, frames):
        if row in bits:
            flat = np.unpackbits(bits[row], count=mask.numel()).view(bool)
            mask.copy_(torch.from_numpy(flat).view(size))
    return masks
