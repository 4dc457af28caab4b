"""From the logits of a clip to its tracks, with numpy: a clip that is one window of frames."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from ..metadata import Metadata
from ..resizing import Canvas, Resized
from .instances import Instances, mask_boxes
from .merging import sigmoid, softmax, top_pairs

MAX_TRACKS = 10  # of a clip, as published
MAX_OBJECTS = 2 * MAX_TRACKS  # queries that are followed frame by frame


def clip_result(
    class_logits: np.ndarray, mask_logits: np.ndarray, canvas: Canvas, metadata: Metadata
) -> dict[str, Any]:
    """Return the best tracks of a clip, in the form of `Runtime.predict_clip`.

    Args:
        class_logits: (Q, K+1).
        mask_logits: (Q, T, h, w), over the padded canvas.
        canvas: says what the masks are resized to.
        metadata: says how queries are scored.
    """
    probs = query_scores(class_logits, mask_logits, metadata)
    scores, queries, labels = top_pairs(probs, MAX_TRACKS)
    masks = {q: _masks(mask_logits[q], canvas) for q in set(queries.tolist())}
    return {
        "image_size": canvas.output,
        "pred_scores": scores.tolist(),
        "pred_labels": labels.tolist(),
        "pred_masks": [masks[q] for q in queries.tolist()],
    }


def frame_results(
    class_logits: np.ndarray,
    mask_logits: np.ndarray,
    canvas: Canvas,
    metadata: Metadata,
    *,
    score_threshold: float = 0.0,
    max_overlap: float = 1.0,
) -> Iterator[Instances]:
    """Yield the instances of each frame of a clip, with ids that stay with their objects.

    Args:
        score_threshold: objects of a lower score are left out, in 0..1.
        max_overlap: IoU in a frame above which a mask repeats a better one and is left out.

    The others are those of `clip_result`.
    """
    probs = query_scores(class_logits, mask_logits, metadata)
    best = probs.max(1)
    queries = np.sort(np.argsort(-best, kind="stable")[:MAX_OBJECTS])
    queries = queries[best[queries] >= score_threshold]
    ids, numbers = dict[int, int](), count(1)
    for frame in range(mask_logits.shape[1]):
        masks = _masks(mask_logits[queries, frame], canvas)
        kept = _choose_masks(best[queries], masks, max_overlap)
        chosen = queries[kept].tolist()
        for query in chosen:
            ids[query] = ids.get(query) or next(numbers)
        yield Instances(
            masks[kept],
            mask_boxes(masks[kept]),
            best[chosen].astype(np.float32),
            probs[chosen].argmax(1),
            np.array([ids[query] for query in chosen], np.int64),
        )


def query_scores(
    class_logits: np.ndarray, mask_logits: np.ndarray, metadata: Metadata
) -> np.ndarray:
    """Return scores (Q, K) from logits (Q, K+1) and (Q, T, h, w); no-object has none.

    They are class probabilities, times the mean probability inside of the mask where the metadata
    say so, and lowered by linear Soft-NMS (Bodla et al. 2017, equation 3) over whole tubes.
    """
    probs = softmax(class_logits)[:, :-1]
    if not metadata.mask_quality and metadata.duplicate_iou >= 1:
        return probs
    flat = mask_logits.reshape(len(mask_logits), -1)
    inside = (flat > 0).astype(np.float32)
    area = inside.sum(1)
    if metadata.mask_quality:
        total = (sigmoid(flat) * inside).sum(1)
        probs = probs * (total / np.maximum(area, 1))[:, None]
    if metadata.duplicate_iou < 1:
        factors = _soft_nms(probs.max(1), _iou(inside), metadata.duplicate_iou)
        probs = probs * factors[:, None]
    return probs


def _soft_nms(scores: np.ndarray, iou: np.ndarray, threshold: float) -> np.ndarray:
    """Return the factors (Q,), in 0..1, by which linear Soft-NMS lowers the scores (Q,)."""
    rest, factors = scores.copy(), np.ones_like(scores)
    for _ in range(len(rest)):
        best = int(rest.argmax())
        rest[best] = -1  # chosen; no longer lowered
        lower = np.where((iou[best] > threshold) & (rest >= 0), 1 - iou[best], 1)
        rest *= lower
        factors *= lower
    return factors


def _iou(masks: np.ndarray) -> np.ndarray:
    """Return the IoU of all pairs of masks (N, P) of 0 and 1; 0 where both are empty."""
    shared = masks @ masks.T
    areas = masks.sum(1)
    return shared / np.maximum(areas[:, None] + areas - shared, 1)


def _masks(mask_logits: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return binary masks (N, *output) of logits (N, h, w)."""
    masks = np.zeros((len(mask_logits), *canvas.output), bool)
    if len(masks):
        for rows, logits in Resized(mask_logits, canvas).blocks():
            masks[:, rows] = logits > 0
    return masks


def _choose_masks(scores: np.ndarray, masks: np.ndarray, max_overlap: float) -> list[int]:
    """Return the indices of masks (N, H, W) that are not empty and repeat no better one."""
    visible = np.flatnonzero(masks.any((1, 2))).tolist()
    if max_overlap >= 1 or len(visible) < 2:
        return visible
    iou = _iou(masks[visible].reshape(len(visible), -1).astype(np.float32))
    kept: list[int] = []
    for i in sorted(range(len(visible)), key=lambda i: -scores[visible[i]]):
        if all(iou[i, j] <= max_overlap for j in kept):
            kept.append(i)
    return [visible[i] for i in sorted(kept)]
