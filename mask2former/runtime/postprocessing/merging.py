"""From logits to semantic, panoptic and instance results of one image, with numpy.

The same merging as the models' own, a few rows of the output at a time. Source: Mask2Former, Cheng
et al. 2022, appendix; MaskFormer, Cheng et al. 2021, section 3.3.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..resizing import Canvas, Resized
from .instances import Instances, mask_boxes


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities along the last axis, float32."""
    powers = np.exp(logits.astype(np.float32) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float32."""
    with np.errstate(over="ignore"):  # of far negative ones, whose probability is 0
        return 1 / (1 + np.exp(-logits.astype(np.float32, copy=False)))


class SemanticMerger:
    """Find the class of every pixel: that of the highest sum of class times mask probabilities.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the map.
        label_threshold: least fraction of a pixel's scores that its class has, in 0..1.
        keep_scores: keep the scores (K, H, W), and no labels.
    """

    def __init__(
        self,
        class_logits: np.ndarray,
        size: tuple[int, int],
        label_threshold: float = 0.0,
        keep_scores: bool = False,
    ):
        self.queries = np.arange(len(class_logits))
        self.class_probs = np.ascontiguousarray(softmax(class_logits)[:, :-1].T)
        self.labels = Labels(len(self.class_probs), size, label_threshold, keep_scores)

    def add(self, rows: slice, mask_logits: np.ndarray, mask_probs: np.ndarray) -> None:
        """Take in some rows of the masks (Q, rows, W)."""
        self.labels.add(rows, class_scores(self.class_probs, mask_probs))

    def result(self) -> np.ndarray:
        """Return labels (H, W), int32, -1 for none; or the scores (K, H, W), float32."""
        return self.labels.values


class Labels:
    """The class of every pixel, or all its scores; see `SemanticMerger`."""

    def __init__(self, count: int, size: tuple[int, int], threshold: float, keep_scores: bool):
        self.threshold = threshold
        self.keep_scores = keep_scores
        self.values = (
            np.empty((count, *size), np.float32) if keep_scores else np.empty(size, np.int32)
        )

    def add(self, rows: slice, scores: np.ndarray) -> None:
        """Take in the scores (K, rows, W) of some rows."""
        if self.keep_scores:
            self.values[:, rows] = scores
            return
        best, labels = first_best(scores)
        labels[~np.isfinite(best)] = -1
        if self.threshold > 0:
            labels[best < self.threshold * scores.sum(0)] = -1
        self.values[rows] = labels


class _MergedScores:
    """Scores over the image on the canvas, (K, H, W), merged as far as rows are read.

    This is the published order for semantic output alone: merge, then resize the scores.
    """

    def __init__(self, class_probs: np.ndarray, mask_logits: np.ndarray, canvas: Canvas):
        self.class_probs = class_probs
        self.width = canvas.image[1]
        self.shape = (len(class_probs), *canvas.image)
        self.masks = Resized(mask_logits, Canvas(canvas.padded, canvas.padded, canvas.padded))

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        logits = self.masks[index][:, :, : self.width]
        return class_scores(self.class_probs, sigmoid(logits))


def class_scores(class_probs: np.ndarray, mask_probs: np.ndarray) -> np.ndarray:
    """Return scores (K, rows, W) of class probabilities (K, Q) and mask probabilities."""
    flat = class_probs @ mask_probs.reshape(len(mask_probs), -1)
    return flat.reshape(len(class_probs), *mask_probs.shape[1:])


def first_best(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return maximum and argmax (rows, W) of scores (N, rows, W); of equal ones the first."""
    best, index = scores[0].copy(), np.zeros(scores.shape[1:], np.int32)
    for i, layer in enumerate(scores[1:], start=1):
        better = layer > best
        np.copyto(index, i, where=better)
        np.maximum(best, layer, out=best)
    return best, index


class PanopticMerger:
    """Give every pixel to the query of highest class times mask probability.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the map.
        is_thing: (K,), bool.
        object_mask_threshold: min. class probability of a query that takes part.
        overlap_threshold: min. fraction of its own mask that a query must have won.
    """

    def __init__(
        self,
        class_logits: np.ndarray,
        size: tuple[int, int],
        is_thing: np.ndarray,
        object_mask_threshold: float,
        overlap_threshold: float,
    ):
        probs = softmax(class_logits)
        scores, labels = probs.max(-1), probs.argmax(-1)
        keep = (labels != class_logits.shape[-1] - 1) & (scores > object_mask_threshold)
        self.queries = np.flatnonzero(keep)
        self.scores, self.labels = scores[keep, None, None], labels[keep]
        self.is_thing = is_thing
        self.overlap_threshold = overlap_threshold
        self.winner = np.zeros(size, np.int32)  # n of the queries that take part: outside of it
        self.areas = np.zeros((3, len(self.queries)), np.int64)  # pixels won, own, and both

    def add(self, rows: slice, mask_logits: np.ndarray, mask_probs: np.ndarray) -> None:
        """Take in some rows of the masks (n, rows, W) of `queries`."""
        count = len(self.queries)
        _, winner = first_best(self.scores * mask_probs)
        masks = mask_probs >= 0.5
        inside = np.take_along_axis(masks, winner[None], 0)[0]
        self.winner[rows] = np.where(inside, winner, count)
        won, visible = (np.bincount(x.ravel(), minlength=count) for x in (winner, winner[inside]))
        self.areas += np.stack([won, np.count_nonzero(masks, axis=(1, 2)), visible])

    def result(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return segment ids (H, W), int32, 0 for void, and the segments' ids and categories."""
        segments: list[dict[str, Any]] = []
        table, stuff = np.zeros(len(self.queries) + 1, np.int32), dict[int, int]()
        for i, (won, own, visible) in enumerate(self.areas.T.tolist()):
            if min(won, own, visible) == 0 or won / own < self.overlap_threshold:
                continue
            label, is_thing = int(self.labels[i]), bool(self.is_thing[self.labels[i]])
            number = 0 if is_thing else stuff.get(label, 0)
            if not number:
                number = len(segments) + 1
                segments.append({"id": number, "isthing": is_thing, "category_id": label})
                if not is_thing:  # the queries of a stuff class share a segment
                    stuff[label] = number
            table[i] = number
        return (table[self.winner] if len(self.queries) else self.winner), segments


def top_pairs(scores: np.ndarray, topk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, queries and classes of the pairs of highest score of (Q, K), best first."""
    flat = scores.ravel()
    order = np.argsort(-flat, kind="stable")[:topk]
    return flat[order], order // scores.shape[1], order % scores.shape[1]


class InstanceMerger:
    """Make an instance of each of the best (query, class) pairs.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the masks.
        topk: pairs to take; a query may appear with several classes.
        is_thing: (K,), bool; if given, pairs of other classes are dropped from the best.
    """

    def __init__(
        self,
        class_logits: np.ndarray,
        size: tuple[int, int],
        topk: int,
        is_thing: np.ndarray | None = None,
    ):
        scores, query, label = top_pairs(softmax(class_logits)[:, :-1], topk)
        if is_thing is not None:
            keep = is_thing[label]
            scores, query, label = scores[keep], query[keep], label[keep]
        self.class_scores, self.labels = scores, label
        self.queries, self.mask_of = np.unique(query, return_inverse=True)
        self.masks = np.zeros((len(scores), *size), bool)
        self.inside = np.zeros((2, len(self.queries)))  # sum of probabilities, number of pixels

    def add(self, rows: slice, mask_logits: np.ndarray, mask_probs: np.ndarray) -> None:
        """Take in some rows of the masks (n, rows, W) of `queries`."""
        masks = mask_logits > 0
        self.masks[:, rows] = masks[self.mask_of]
        self.inside[0] += np.where(masks, mask_probs, 0).sum((1, 2), dtype=np.float64)
        self.inside[1] += np.count_nonzero(masks, axis=(1, 2))

    def result(self) -> Instances:
        """Return the instances, best class first; a score is the class probability times the mean
        mask probability inside the mask."""
        total, area = self.inside
        scores = self.class_scores * (total / (area + 1e-6))[self.mask_of]
        return Instances(
            self.masks,
            mask_boxes(self.masks),
            scores.astype(np.float32),
            self.labels.astype(np.int64),
        )


Merger = SemanticMerger | PanopticMerger | InstanceMerger


def merge_masks(mask_logits: np.ndarray, canvas: Canvas, mergers: Sequence[Merger]) -> None:
    """Show every merger the masks of the queries that it needs, at the output's size.

    Args:
        mask_logits: (Q, h, w), over the padded canvas.
        canvas: says what the masks are resized to.
        mergers: each takes in the masks of its `queries`, which ascend.
    """
    needed = np.unique(np.concatenate([np.zeros(0, int), *(m.queries for m in mergers)]))
    if not len(needed):
        return
    indices = [np.searchsorted(needed, merger.queries) for merger in mergers]
    for rows, logits in Resized(mask_logits[needed], canvas).blocks():
        probs = sigmoid(logits)
        for merger, index in zip(mergers, indices):
            if len(index) == len(needed):
                merger.add(rows, logits, probs)
            elif len(index):
                merger.add(rows, logits[index], probs[index])


def merge_then_resize(mask_logits: np.ndarray, canvas: Canvas, merger: SemanticMerger) -> None:
    """Fill a merger in the published order for semantic output alone, see `_MergedScores`.

    Args:
        mask_logits: (Q, h, w), of all queries.
        canvas: the sizes.
        merger: gets all rows of the output.
    """
    scores = _MergedScores(merger.class_probs, mask_logits, canvas)
    from_image = Canvas(canvas.image, canvas.image, canvas.output)
    for rows, block in Resized(scores, from_image).blocks():
        merger.labels.add(rows, block)
