"""Merging inside the graph, of fixed shape, for those who need one file.

Results are those of `modeling/postprocessing/mergers.py` over the whole canvas; what is padded at
its right and lower edges is for the caller to cut off.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UnsupportedError, UserError
from ..runtime.metadata import MERGED_KINDS, POSTPROCESSES
from .graphs import Graph


class PostprocessedGraph(Graph):
    """A graph of images with one kind of result behind it.

    Args:
        graph: of images, to logits.

    Raises:
        UnsupportedError: the graph's model has no such result.
        UserError: nothing says which classes are things, and the result needs it.
    """

    name: ClassVar[str]

    def __init__(self, graph: Graph):
        kinds = MERGED_KINDS.get(self.name, ("image",))
        if graph.kind not in kinds:
            raise UnsupportedError(
                f"{type(graph.model).__name__} cannot be exported with this post-processing: it is "
                f"for models of kind {' or '.join(kinds)}, this one is of kind {graph.kind}; "
                "leave out --with-postprocess"
            )
        super().__init__(graph.model)
        self.logits = graph  # not "graph", a name that traced modules have themselves
        self.kind = graph.kind
        self.stride = graph.stride  # measured here, before a trace
        if self.needs_things():
            self.things(0)  # raises now what it would inside of a trace

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs."""
        return POSTPROCESSES[self.name]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict and merge; see the class."""
        logits = self.logits(images)
        return self.merge(*(logits if isinstance(logits, tuple) else (logits,)))

    def merge(self, *logits: Tensor) -> tuple[Tensor, ...]:
        """Make results of logits."""
        raise NotImplementedError

    def enlarged(self, maps: Tensor) -> Tensor:
        """Resize maps (B, N, h, w) to the canvas."""
        size = (maps.shape[-2] * self.stride, maps.shape[-1] * self.stride)
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

    def needs_things(self) -> bool:
        """Whether the result depends on which classes are things."""
        return False

    def things(self, num_classes: int) -> Tensor:
        """Return (K,), True for things; raise a UserError where that is not known."""
        return self.model._is_thing(num_classes)


class SemanticGraph(PostprocessedGraph):
    """`class_map` (B, H, W), int32: the class of highest score of every pixel."""

    name = "semantic"
    output_axes = ({0: "batch", 1: "height", 2: "width"},)

    def merge(self, *logits: Tensor) -> tuple[Tensor]:
        """Merge as `SemanticMerger`, before or after resizing as the model does."""
        if len(logits) == 1:
            return (self.enlarged(logits[0]).argmax(1).int(),)
        class_logits, masks = logits
        probs = class_logits.softmax(-1)[..., :-1].transpose(1, 2)  # (B, K, Q)
        masks = self.enlarged(masks).sigmoid()
        scores = (probs @ masks.flatten(2)).unflatten(2, masks.shape[-2:])
        return (scores.argmax(1).int(),)


class PanopticGraph(PostprocessedGraph):
    """`segment_ids` (B, H, W), int32, 0 for void; `segment_classes` (B, Q), int32, of the segments
    from 1 on, -1 behind the last; `count` (B,), int32."""

    name = "panoptic"
    output_axes = (
        {0: "batch", 1: "height", 2: "width"},
        {0: "batch"},
        {0: "batch"},
    )

    def needs_things(self) -> bool:
        """Return True: those of stuff classes are one segment."""
        return True

    def merge(self, *logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Merge as `PanopticMerger`."""
        class_logits, masks = logits
        num_classes = class_logits.shape[-1] - 1
        scores, labels = class_logits.softmax(-1).max(-1)  # (B, Q)
        keep = (labels != num_classes) & (scores > self.model.object_mask_threshold)
        probs = self.enlarged(masks).sigmoid()
        queries = torch.arange(scores.shape[1])
        weights = torch.where(keep, scores, -1.0)  # others lose against any
        winner = (weights[:, :, None, None] * probs).argmax(1, keepdim=True)  # (B, 1, H, W)
        inside, won = probs >= 0.5, winner == queries[:, None, None]
        areas = [x.flatten(2).sum(-1) for x in (won, inside, won & inside)]
        fraction = areas[0].double() / areas[1].clamp(min=1)
        valid = keep & (torch.stack(areas).amin(0) > 0) & (fraction >= self.model.overlap_threshold)
        segments, opened = _numbered(
            valid, labels, self.things(num_classes)[labels.clamp(max=num_classes - 1)]
        )
        ids = segments.gather(1, winner.flatten(1)).view_as(winner[:, 0])
        ids = torch.where(inside.gather(1, winner)[:, 0], ids, 0)
        at = opened[:, None] & (segments[:, None] == queries[:, None] + 1)  # (B, segment, Q)
        classes = torch.where(at, labels[:, None], -1).amax(-1)
        return ids.int(), classes.int(), opened.sum(-1).int()


def _numbered(valid: Tensor, labels: Tensor, is_thing: Tensor) -> tuple[Tensor, Tensor]:
    """Return the segment of each query (B, Q), from 1 on, 0 for none, and which queries open one:
    those of one stuff class share the segment of the first."""
    earlier = torch.ones(labels.shape[1], labels.shape[1]).tril(-1).bool()
    stuff = valid & ~is_thing
    shared = (labels[:, :, None] == labels[:, None]) & stuff[:, :, None] & stuff[:, None] & earlier
    opened = valid & ~shared.any(-1)
    own = opened.long().cumsum(1) * opened
    of_first = (shared * own[:, None]).amax(-1)  # one of those before opened the segment
    return torch.where(opened, own, of_first), opened


class InstanceGraph(PostprocessedGraph):
    """`masks` (B, N, H, W), uint8, `boxes` (B, N, 4), float32, (x0, y0, x1, y1) in pixels, `scores`
    (B, N), `classes` (B, N), int32, and `count` (B,), int32.

    N is fixed, the model's top-k; the first `count` are meant, of the others scores are 0 and
    classes -1.
    """

    name = "instance"
    output_axes = (
        {0: "batch", 2: "height", 3: "width"},
        *({0: "batch"},) * 4,
    )

    def needs_things(self) -> bool:
        """Return whether things alone are instances."""
        return self.model.panoptic_on

    def merge(self, *logits: Tensor) -> tuple[Tensor, ...]:
        """Merge as `InstanceMerger`."""
        class_logits, masks = logits
        batch, num_queries, num_classes = *class_logits.shape[:2], class_logits.shape[-1] - 1
        probs = class_logits.softmax(-1)[..., :-1].flatten(1)
        topk = min(self.model.test_topk_per_image, num_queries * num_classes)
        scores, index = probs.topk(topk, dim=1)
        if self.model.panoptic_on:  # things are kept of the best, and come first
            kept = self.things(num_classes)[index % num_classes]
            scores, order = torch.where(kept, scores, -1.0).topk(topk, dim=1)
            index = index.gather(1, order)
        is_kept = scores >= 0
        rows = torch.div(index, num_classes, rounding_mode="floor")
        rows = rows + torch.arange(batch)[:, None] * num_queries
        chosen = masks.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, (-1, topk))
        chosen = self.enlarged(chosen)
        inside = (chosen > 0) & is_kept[:, :, None, None]
        area = inside.flatten(2).sum(-1)
        total = (chosen.sigmoid() * inside).flatten(2).sum(-1)
        scores = torch.where(is_kept, scores * (total / (area + 1e-6)), 0.0)
        classes = torch.where(is_kept, index % num_classes, -1)
        count = is_kept.sum(1).int()
        return inside.to(torch.uint8), _boxes(inside), scores, classes.int(), count


def _boxes(masks: Tensor) -> Tensor:
    """Return boxes (B, N, 4) of masks (B, N, H, W); zeros where a mask is empty."""
    ends = []
    for lines in (masks.any(2), masks.any(3)):  # columns, rows
        length = lines.shape[-1]
        places = torch.arange(length)
        last = torch.where(lines, places + 1, 0).amax(-1)
        first = length - torch.where(lines, length - places, 0).amax(-1)
        ends.append((torch.minimum(first, last), last))
    (x0, x1), (y0, y1) = ends
    return torch.stack([x0, y0, x1, y1], -1).float()


_GRAPHS: dict[str, type[PostprocessedGraph]] = {
    graph.name: graph for graph in (SemanticGraph, PanopticGraph, InstanceGraph)
}


def with_postprocess(graph: Graph, name: str) -> Graph:
    """Return a graph with a kind of result behind it; "" leaves it as it is.

    Raises:
        UserError: an unknown kind, or one that the model cannot have.
    """
    if not name:
        return graph
    if name not in _GRAPHS:
        raise UserError(f"post-processing is one of {', '.join(_GRAPHS)}, got {name!r}")
    return _GRAPHS[name](graph)
