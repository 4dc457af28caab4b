"""From query predictions to semantic, panoptic and instance segmentations of one image.

Source: Mask2Former, Cheng et al. 2022, appendix; MaskFormer, Cheng et al. 2021, section 3.3.
Class scores need no masks: each output first says which queries it needs, and then one pass over
these, a few at a time, brings their masks to the output's size. Memory depends on the size of the
output, not on the number of queries times that size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..ops.masks import mask_boxes, resize

# Mask pixels (queries x height x width) that are worked on at a time.
_PIXELS_PER_CHUNK = 16 * 2**20


@dataclass(frozen=True)
class Canvas:
    """The sizes (H, W) that an image passes through.

    Attributes:
        padded: the batch's canvas, which predictions cover.
        image: the part of it, at its top left, that the image fills.
        output: the size wanted.
    """

    padded: tuple[int, int]
    image: tuple[int, int]
    output: tuple[int, int]

    def resize_to_output(self, mask_logits: Tensor) -> Tensor:
        """Bring (N, h, w) predictions over the padded canvas to (N, *output), as published:
        resized to the canvas, cropped to the image, resized again."""
        return resize(self.crop(resize(mask_logits, self.padded)), self.output)

    def crop(self, maps: Tensor) -> Tensor:
        """Cut maps (N, *padded) to the image."""
        return maps[:, : self.image[0], : self.image[1]]


class SemanticMerger:
    """Adds up class probabilities times mask probabilities over all queries.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the map.
    """

    def __init__(self, class_logits: Tensor, size: tuple[int, int]):
        self.class_probs = class_logits.softmax(-1)[:, :-1]  # (Q, K)
        self.queries = torch.arange(len(class_logits), device=class_logits.device)
        self.size = size
        self.scores: Tensor | None = None

    def add(self, queries: Tensor, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in the masks (n, H, W) of some queries (n,)."""
        weights, masks = self.class_probs[queries].T, mask_probs.flatten(1)
        if self.scores is None:
            self.scores = weights @ masks
        else:
            self.scores.addmm_(weights, masks)

    def result(self) -> Tensor:
        """Scores (K, H, W), not normalised."""
        return self.scores.unflatten(1, self.size)


class PanopticMerger:
    """Gives every pixel to the query of highest class times mask probability.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the map.
        is_thing: (K,), bool.
        object_mask_threshold: least class probability of a query that takes part.
        overlap_threshold: least share of its own mask that a query must have won.
    """

    def __init__(
        self,
        class_logits: Tensor,
        size: tuple[int, int],
        is_thing: Tensor,
        object_mask_threshold: float,
        overlap_threshold: float,
    ):
        scores, labels = class_logits.softmax(-1).max(-1)
        keep = (labels != class_logits.shape[-1] - 1) & (scores > object_mask_threshold)
        self.queries = keep.nonzero()[:, 0]
        self.scores, self.labels = scores, labels
        self.is_thing = is_thing
        self.overlap_threshold = overlap_threshold
        device = class_logits.device
        self.best = torch.full(size, -1.0, device=device)
        self.winner = torch.zeros(size, dtype=torch.int64, device=device)
        self.inside = torch.zeros(size, dtype=torch.bool, device=device)
        self.own_area = torch.zeros(len(class_logits), dtype=torch.int64, device=device)

    def add(self, queries: Tensor, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in the masks (n, H, W) of some of `queries`, in ascending order."""
        inside = mask_probs >= 0.5
        self.own_area[queries] = inside.flatten(1).sum(1)
        best, index = (self.scores[queries, None, None] * mask_probs).max(0)
        better = best > self.best  # of equal queries the first wins
        self.best = torch.where(better, best, self.best)
        self.winner = torch.where(better, queries[index], self.winner)
        inside = inside.gather(0, index[None])[0]
        self.inside = torch.where(better, inside, self.inside)

    def result(self) -> tuple[Tensor, list[dict]]:
        """Segment ids (H, W), int32, 0 for void, and the segments' ids and categories."""
        segmentation = torch.zeros_like(self.winner, dtype=torch.int32)
        if len(self.queries) == 0:
            return segmentation, []
        num_queries = len(self.scores)
        won = self.winner.flatten().bincount(minlength=num_queries)
        visible = self.winner[self.inside].bincount(minlength=num_queries)
        facts = torch.stack([won, self.own_area, visible, self.labels])[:, self.queries]
        segments, segment_of = self._open_segments(facts.cpu().tolist())
        table = torch.zeros(num_queries, dtype=torch.int32)
        table[self.queries.cpu()] = torch.tensor(segment_of, dtype=torch.int32)
        ids = table.to(self.winner.device)[self.winner]
        return torch.where(self.inside, ids, segmentation), segments

    def _open_segments(self, facts: Sequence[Sequence[int]]) -> tuple[list[dict], list[int]]:
        """Decide which queries become segments; queries of one stuff class share theirs."""
        is_thing = self.is_thing.tolist()
        segments: list[dict] = []
        segment_of, stuff = [], {}
        for won, own, visible, label in zip(*facts):
            segment = 0
            if min(won, own, visible) > 0 and won / own >= self.overlap_threshold:
                segment = 0 if is_thing[label] else stuff.get(label, 0)
                if not segment:
                    segment = len(segments) + 1
                    segments.append(
                        {"id": segment, "isthing": is_thing[label], "category_id": label}
                    )
                    if not is_thing[label]:
                        stuff[label] = segment
            segment_of.append(segment)
        return segments, segment_of


def best_pairs(class_logits: Tensor, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """The (query, class) pairs of highest class probability, no-object apart.

    Args:
        class_logits: (Q, K+1).
        topk: pairs wanted; fewer come where there are fewer.

    Returns:
        probabilities, queries and classes, in no particular order.
    """
    return top_pairs(class_logits.softmax(-1)[:, :-1], topk)


def top_pairs(probs: Tensor, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest entries of probabilities (Q, K), as `best_pairs`."""
    flat = probs.flatten()
    scores, index = flat.topk(min(topk, len(flat)), sorted=False)
    return scores, index.div(probs.shape[1], rounding_mode="floor"), index % probs.shape[1]


class InstanceMerger:
    """Makes an instance of each of the best (query, class) pairs.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the masks.
        topk: pairs to take; a query may appear with several classes.
        is_thing: (K,), bool; if given, pairs of other classes are dropped from the best.
    """

    def __init__(
        self,
        class_logits: Tensor,
        size: tuple[int, int],
        topk: int,
        is_thing: Tensor | None = None,
    ):
        scores, query, label = best_pairs(class_logits, topk)
        if is_thing is not None:
            keep = is_thing[label]
            scores, query, label = scores[keep], query[keep], label[keep]
        self.class_scores, self.labels = scores, label
        self.queries, self.mask_of = query.unique(return_inverse=True)
        self.size = size
        self.masks: list[Tensor] = []
        self.mask_scores: list[Tensor] = []

    def add(self, queries: Tensor, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in the masks (n, H, W) of some of `queries`, in ascending order."""
        masks = mask_logits > 0
        inside = (mask_probs.flatten(1) * masks.flatten(1)).sum(1)
        self.masks.append(masks)
        self.mask_scores.append(inside / (masks.flatten(1).sum(1) + 1e-6))

    def result(self) -> Instances:
        """Instances with `pred_masks` (bool), `pred_boxes`, `scores` and `pred_classes`; a score
        is the class probability times the mean mask probability inside the mask."""
        instances = Instances(self.size)
        if self.masks:
            masks = torch.cat(self.masks)
            quality = torch.cat(self.mask_scores)
        else:
            masks = torch.zeros(0, *self.size, dtype=torch.bool, device=self.queries.device)
            quality = self.class_scores
        self.masks = []
        distinct = len(masks) == len(self.mask_of)
        boxes = mask_boxes(masks)[self.mask_of]
        # Without repeated queries the order of the masks need not cost a copy of them.
        order = self.mask_of.argsort() if distinct else None
        if order is None:
            instances.pred_masks = masks[self.mask_of]
            order = torch.arange(len(self.mask_of), device=masks.device)
        else:
            instances.pred_masks = masks
        instances.pred_boxes = Boxes(boxes[order])
        instances.scores = (self.class_scores * quality[self.mask_of])[order]
        instances.pred_classes = self.labels[order]
        return instances


Merger = SemanticMerger | PanopticMerger | InstanceMerger


def merge_masks(mask_logits: Tensor, canvas: Canvas, mergers: Sequence[Merger]) -> None:
    """Show every merger the masks of the queries that it needs, at the output's size.

    Args:
        mask_logits: (Q, h, w), over the padded canvas.
        canvas: says what the masks are resized to.
        mergers: each takes in the masks of its `queries`, in ascending order.
    """
    needed = torch.cat([m.queries for m in mergers]).unique() if mergers else ()
    wanted = [torch.isin(needed, m.queries) for m in mergers]
    height, width = canvas.output
    step = max(1, _PIXELS_PER_CHUNK // (height * width))
    for start in range(0, len(needed), step):
        queries = needed[start : start + step]
        logits = canvas.resize_to_output(mask_logits[queries].float())
        probs = logits.sigmoid()
        for merger, want in zip(mergers, wanted):
            part = want[start : start + step]
            if part.all():
                merger.add(queries, logits, probs)
            elif part.any():
                merger.add(queries[part], logits[part], probs[part])
