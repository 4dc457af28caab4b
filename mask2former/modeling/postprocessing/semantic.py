"""From query predictions to a semantic segmentation: all scores, or the best class alone.

Source: MaskFormer, Cheng et al. 2021, section 3.3.
"""

import torch
from torch import Tensor

from ...ops.linear import linear
from ...ops.memory import empty_large
from .canvas import Canvas, ResizedRows

_PLACES = 255  # that a byte can count
# Classes from which on it pays to ask first which ones an image may show, and what these score.
_MANY_CLASSES = 32
_LIKELY = 0.1


class _ClassScores:
    """Add up class probabilities times mask probabilities over all queries.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the map.
        factors: type of the factors of the product. Scores are float32; of 16-bit factors they are
            float16, which NumPy knows: half of the memory, and as many digits down to 6e-5. Below
            3e-8 they are zero.
    """

    unordered = True

    def __init__(
        self,
        class_logits: Tensor,
        size: tuple[int, int],
        factors: torch.dtype = torch.float32,
    ):
        self.queries = torch.arange(len(class_logits), device=class_logits.device)
        self.class_probs = class_logits.softmax(-1)[:, :-1].T.to(factors).contiguous()  # (K, Q)
        self.dtype = torch.float32 if factors.itemsize > 2 else torch.float16
        self._make_map(size, class_logits.device)

    def _make_map(self, size: tuple[int, int], device: torch.device) -> None:
        """Make room for the result."""
        raise NotImplementedError

    def scores_of(self, mask_probs: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return scores (K, P) of masks (Q, rows, W) at P pixels, or those of some classes, in the
        type of the factors."""
        class_probs = self.class_probs if classes is None else self.class_probs[classes]
        probs = mask_probs.flatten(1).to(class_probs.dtype)
        return linear(class_probs, probs.T)


class SemanticMerger(_ClassScores):
    """Keep the scores of all classes; the arguments are those of `_ClassScores`."""

    def _make_map(self, size: tuple[int, int], device: torch.device) -> None:
        self.scores = empty_large(len(self.class_probs), *size, dtype=self.dtype, device=device)

    def add(self, rows: slice, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in some rows of the masks (Q, rows, W)."""
        width = mask_probs.shape[2]
        out = self.scores.flatten(1)[:, rows.start * width : rows.stop * width]
        out.copy_(self.scores_of(mask_probs))

    def result(self) -> Tensor:
        """Return scores (K, H, W), not normalised."""
        return self.scores


class LabelMerger(_ClassScores):
    """Keep the best class of every pixel alone: scores exist for a few rows at a time.

    The arguments are those of `_ClassScores`.

    Attributes:
        likely: (L,), ascending, on a CPU: the classes whose probabilities add up to more than
            `_LIKELY` over all queries, the most that a class can score. They decide alone where
            one of them scores more than that, which holds for nearly all pixels; an image shows
            some ten of a hundred classes. None where too few classes could be left out.
    """

    def _make_map(self, size: tuple[int, int], device: torch.device) -> None:
        self.labels = torch.empty(size, dtype=torch.int32, device=device)
        self.likely = None
        if device.type == "cpu" and len(self.class_probs) >= _MANY_CLASSES:
            likely = (self.class_probs.float().sum(1) > _LIKELY).nonzero()[:, 0]
            if 0 < len(likely) <= len(self.class_probs) // 2:
                self.likely = likely
        # Sums of 16 bits are rounded, so that others could come a little above.
        self.decisive = _LIKELY * (1 + 4 * torch.finfo(self.class_probs.dtype).eps) + 1e-4

    def add(self, rows: slice, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in some rows of the masks (Q, rows, W)."""
        out = self.labels[rows].view(-1)
        if self.likely is None:
            out.copy_(best_classes(self.scores_of(mask_probs)))
            return
        open_pixels = self._label_likely(self.scores_of(mask_probs, self.likely), out)
        if len(open_pixels):
            probs = mask_probs.flatten(1)[:, open_pixels]
            out[open_pixels] = best_classes(self.scores_of(probs))

    def add_resized(self, mask_logits: Tensor, canvas: Canvas) -> None:
        """Take in masks (Q, h, w) whose scores are resized to the output, not the masks."""
        resizing = Canvas(canvas.image, canvas.image, canvas.output)
        unresized = _ScoresOfRows(self, mask_logits, canvas)
        scores, likely = ResizedRows(resizing, unresized), None
        if self.likely is not None:
            of_likely = _ScoresOfRows(self, mask_logits, canvas, self.likely)
            likely = ResizedRows(resizing, of_likely)
        for rows in resizing.row_blocks(unresized):
            out = self.labels[rows]
            if likely is None or len(self._label_likely(likely[rows].flatten(1), out.view(-1))):
                out.copy_(best_classes(scores[rows]))

    def _label_likely(self, scores: Tensor, out: Tensor) -> Tensor:
        """Write the best of `likely` of scores (L, P); return the pixels that it may not be."""
        best = scores.amax(0)
        out.copy_(self.likely[_first_of(scores, best)])
        return (~(best > self.decisive)).nonzero()[:, 0]

    def result(self) -> Tensor:
        """Return classes (H, W), int32, -1 where the best score is no finite number."""
        return self.labels


class _ScoresOfRows:
    """Scores (K, H, W) over an image, or those of some classes; `[:, rows]` computes some rows."""

    def __init__(
        self,
        merger: _ClassScores,
        mask_logits: Tensor,
        canvas: Canvas,
        classes: Tensor | None = None,
    ):
        self.merger = merger
        self.classes = classes
        self.masks = ResizedRows(Canvas(canvas.padded, canvas.image, canvas.image), mask_logits)
        count = len(merger.class_probs if classes is None else classes)
        self.shape = (count, *canvas.image)
        self.device = mask_logits.device

    def __getitem__(self, index: tuple[slice, slice]) -> Tensor:
        rows = index[1]
        probs = self.masks[rows].sigmoid()
        scores = self.merger.scores_of(probs, self.classes).to(self.merger.dtype)
        return scores.view(self.shape[0], rows.stop - rows.start, self.shape[2])


def best_classes(scores: Tensor) -> Tensor:
    """Return the best class of scores (K, ...), int32, the first of equal ones; -1 where its score
    is not finite."""
    best = scores.amax(0)
    return _first_of(scores, best).masked_fill_(best.isinf(), -1)


def _first_of(scores: Tensor, best: Tensor) -> Tensor:
    """Return where along (K, ...) the best score (...) stands first, int32; -1 where nowhere.

    Places are counted down in bytes, whose maximum takes a third of the time of `Tensor.max`, which
    keeps an index of each value.
    """
    first = torch.full_like(best, -1, dtype=torch.int32)
    for start in reversed(range(0, len(scores), _PLACES)):
        part = scores[start : start + _PLACES]
        places = torch.arange(len(part), 0, -1, dtype=torch.uint8, device=scores.device)
        hits = (part == best).view(torch.uint8)
        place = hits.mul_(places.view(-1, *[1] * best.dim())).amax(0).int()
        first = torch.where(place > 0, start + len(part) - place, first)
    return first
