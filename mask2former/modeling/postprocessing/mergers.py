"""From query predictions to semantic, panoptic and instance segmentations of one image.

Source: Mask2Former, Cheng et al. 2022, appendix; MaskFormer, Cheng et al. 2021, section 3.3.
Class scores need no masks: each output first says which queries it needs. Then one pass over the
rows of the output, a few at a time, brings the masks of these to its size. Memory depends on what
is asked for, not on the number of queries times the size of the output.

On a CPU each thread has rows of its own, where the mergers are `unordered`: what is added up over
rows is exact in any order, or added up in the order of rows.
"""

import threading
from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ...ops.masks import boxes_from_lines
from ...ops.memory import empty_large
from ...ops.parallel import share_among_threads
from .canvas import Canvas, ResizedRows
from .semantic import LabelMerger, SemanticMerger


class PanopticMerger:
    """Give every pixel to the query of highest class times mask probability.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the map.
        is_thing: (K,), bool.
        object_mask_threshold: min. class probability of a query that takes part.
        overlap_threshold: min. fraction of its own mask that a query must have won.
        scored: give segments a `score`, the highest class probability of their queries.
    """

    unordered = True

    def __init__(
        self,
        class_logits: Tensor,
        size: tuple[int, int],
        is_thing: Tensor,
        object_mask_threshold: float,
        overlap_threshold: float,
        scored: bool = False,
    ):
        scores, labels = class_logits.softmax(-1).max(-1)
        keep = (labels != class_logits.shape[-1] - 1) & (scores > object_mask_threshold)
        self.queries = keep.nonzero()[:, 0]
        self.scores, self.labels = scores[keep, None, None], labels[keep]
        self.is_thing = is_thing
        self.overlap_threshold = overlap_threshold
        self.scored = scored
        # All below count the queries that take part only, n of them.
        # The query that each pixel goes to; n where it is outside of that one's mask.
        self.winner = torch.zeros(size, dtype=torch.int32, device=scores.device)
        # Pixels that a query has won, those of its own mask, and those that are both.
        self.areas = torch.zeros(3, len(self.queries), dtype=torch.int64, device=scores.device)
        self.adding = threading.Lock()

    def add(self, rows: slice, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in some rows of the masks (n, rows, W) of `queries`."""
        winner = (self.scores * mask_probs).max(0).indices  # of equal queries the first wins
        masks = mask_probs >= 0.5
        inside = masks.gather(0, winner[None])[0]
        count = len(self.queries)
        self.winner[rows] = torch.where(inside, winner, count)
        won, visible = (x.bincount(minlength=count) for x in (winner.flatten(), winner[inside]))
        areas = torch.stack([won, masks.flatten(1).sum(1), visible])
        with self.adding:
            self.areas += areas

    def result(self) -> tuple[Tensor, list[dict]]:
        """Segment ids (H, W), int32, 0 for void, and the segments' ids and categories."""
        if len(self.queries) == 0:
            return self.winner, []
        facts = torch.cat([self.areas, self.labels[None], self.is_thing[self.labels][None]])
        facts = facts.cpu().tolist()
        segments, segment_of = self._open_segments(facts)
        if self.scored:
            for score, number in zip(self.scores.flatten().tolist(), segment_of):
                if number:
                    before = segments[number - 1].get("score", 0.0)
                    segments[number - 1]["score"] = max(before, score)
        table = torch.tensor([*segment_of, 0], dtype=torch.int32, device=self.winner.device)
        ids = table.index_select(0, self.winner.flatten())
        return ids.view_as(self.winner), segments

    def _open_segments(self, facts: Sequence[Sequence[int]]) -> tuple[list[dict], list[int]]:
        """Decide which queries become segments; queries of one stuff class share theirs.

        Args:
            facts: pixels won, own and both, the class, and whether it is one of things, each of n
                queries.
        """
        segments: list[dict] = []
        segment_of, stuff = [], {}
        for won, own, visible, label, is_thing in zip(*facts):
            segment = 0
            if min(won, own, visible) > 0 and won / own >= self.overlap_threshold:
                segment = 0 if is_thing else stuff.get(label, 0)
                if not segment:
                    segment = len(segments) + 1
                    segments.append(
                        {"id": segment, "isthing": bool(is_thing), "category_id": label}
                    )
                    if not is_thing:
                        stuff[label] = segment
            segment_of.append(segment)
        return segments, segment_of


def top_pairs(scores: Tensor, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (query, class) pairs of highest score.

    Args:
        scores: (Q, K).
        topk: pairs wanted; fewer come where there are fewer.

    Returns:
        scores, queries and classes, in no particular order.
    """
    best, index = scores.flatten().topk(min(topk, scores.numel()), sorted=False)
    return best, index.div(scores.shape[1], rounding_mode="floor"), index % scores.shape[1]


class InstanceMerger:
    """Make an instance of each of the best (query, class) pairs.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the masks.
        topk: pairs to take; a query may appear with several classes.
        is_thing: (K,), bool; if given, pairs of other classes are dropped from the best.
    """

    unordered = True

    def __init__(
        self,
        class_logits: Tensor,
        size: tuple[int, int],
        topk: int,
        is_thing: Tensor | None = None,
    ):
        scores, query, label = top_pairs(class_logits.softmax(-1)[:, :-1], topk)
        if is_thing is not None:
            keep = is_thing[label]
            scores, query, label = scores[keep], query[keep], label[keep]
        self.class_scores, self.labels = scores, label
        self.queries, self.mask_of = query.unique(return_inverse=True)
        self.size = size
        count, device = len(self.queries), scores.device
        self.masks = empty_large(len(scores), *size, dtype=torch.bool, device=device)
        # Of each of `queries`: sum of probabilities and number of pixels inside the mask, by the
        # first of some rows, and the columns and rows that it touches.
        self.inside: dict[int, Tensor] = {}
        self.columns = torch.zeros(count, size[1], dtype=torch.bool, device=device)
        self.rows = torch.zeros(count, size[0], dtype=torch.bool, device=device)
        self.adding = threading.Lock()

    def add(self, rows: slice, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in some rows of the masks (n, rows, W) of `queries`."""
        masks = mask_logits > 0
        self.masks[:, rows] = masks[self.mask_of]
        # `vecdot`, and `amax` of bytes for `any`: 2 % of an image of 800x1216.
        numbers = masks.flatten(1).to(mask_probs.dtype)
        total = torch.linalg.vecdot(mask_probs.flatten(1), numbers)
        self.inside[rows.start] = torch.stack([total, numbers.sum(1)])
        pixels = masks.view(torch.uint8)
        columns = pixels.amax(1).view(torch.bool)
        with self.adding:
            self.columns |= columns
        self.rows[:, rows] = pixels.amax(2).view(torch.bool)

    def result(self) -> Instances:
        """Return instances with `pred_masks` (bool), `pred_boxes`, `scores` and `pred_classes`; a
        score is the class probability times the mean mask probability inside the mask."""
        nothing = self.class_scores.new_zeros(2, len(self.queries))
        total, area = sum((self.inside[row] for row in sorted(self.inside)), nothing)
        instances = Instances(self.size)
        instances.pred_masks = self.masks
        instances.pred_boxes = Boxes(boxes_from_lines(self.columns, self.rows)[self.mask_of])
        instances.scores = self.class_scores * (total / (area + 1e-6))[self.mask_of]
        instances.pred_classes = self.labels
        return instances


Merger = SemanticMerger | LabelMerger | PanopticMerger | InstanceMerger


def _union(queries: Sequence[Tensor], count: int) -> Tensor:
    """Return the union of ascending choices of `count` queries; waits for a GPU only if needed."""
    whole = [some for some in queries if len(some) == count]
    return whole[0] if whole else torch.cat(list(queries)).unique()


def merge_masks(mask_logits: Tensor, canvas: Canvas, mergers: Sequence[Merger]) -> None:
    """Show every merger the masks of the queries that it needs, at the output's size.

    Args:
        mask_logits: (Q, h, w), over the padded canvas.
        canvas: says what the masks are resized to.
        mergers: each takes in the masks of its `queries`, which ascend; in several threads on a
            CPU, if all are `unordered`.
    """
    mergers = [merger for merger in mergers if len(merger.queries)]
    if not mergers:
        return
    needed = _union([merger.queries for merger in mergers], mask_logits.shape[0])
    # Indices of each merger's queries among those needed; None for all of them.
    indices = [
        None if len(m.queries) == len(needed) else torch.searchsorted(needed, m.queries)
        for m in mergers
    ]
    masks = mask_logits if len(needed) == mask_logits.shape[0] else mask_logits[needed]

    def show(blocks: Sequence[slice]) -> None:
        resized = ResizedRows(canvas, masks)
        with torch.autocast(masks.device.type, enabled=False):
            for rows in blocks:
                logits = resized[rows]
                probs = logits.sigmoid()
                for merger, index in zip(mergers, indices):
                    if index is None:
                        merger.add(rows, logits, probs)
                    else:
                        merger.add(rows, logits[index], probs[index])

    blocks = list(canvas.row_blocks(masks))
    if masks.device.type == "cpu" and all(getattr(m, "unordered", False) for m in mergers):
        share_among_threads(show, blocks)
    else:
        show(blocks)
