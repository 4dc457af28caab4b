"""From query predictions to a semantic segmentation: all scores, or the best class alone.

Source: MaskFormer, Cheng et al. 2021, section 3.3.
"""

import torch
from torch import Tensor

from ...ops.linear import linear
from ...ops.memory import empty_large
from .canvas import Canvas, ResizedRows

_PLACES = 255  # that a byte can count


class _ClassScores:
    """Add up class probabilities times mask probabilities over all queries.

    Args:
        class_logits: (Q, K+1).
        size: (H, W) of the map.
        factors: type of the factors of the product. Scores are float32; of 16-bit factors they are
            float16, which NumPy knows: half of the memory, and as many digits down to 6e-5. Below
            3e-8 they are zero.
    """

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

    def scores_of(self, mask_probs: Tensor) -> Tensor:
        """Return scores (K, P) of masks (Q, rows, W) at P pixels, in the type of the factors."""
        probs = mask_probs.flatten(1).to(self.class_probs.dtype)
        return linear(self.class_probs, probs.T)


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
    """

    def _make_map(self, size: tuple[int, int], device: torch.device) -> None:
        self.labels = torch.empty(size, dtype=torch.int32, device=device)

    def add(self, rows: slice, mask_logits: Tensor, mask_probs: Tensor) -> None:
        """Take in some rows of the masks (Q, rows, W)."""
        self.labels[rows] = best_classes(self.scores_of(mask_probs)).view(self.labels[rows].shape)

    def add_resized(self, mask_logits: Tensor, canvas: Canvas) -> None:
        """Take in masks (Q, h, w) whose scores are resized to the output, not the masks."""
        scores = _ScoresOfRows(self, mask_logits, canvas)
        for rows, part in Canvas(canvas.image, canvas.image, canvas.output).blocks(scores):
            self.labels[rows] = best_classes(part)

    def result(self) -> Tensor:
        """Return classes (H, W), int32, -1 where the best score is no finite number."""
        return self.labels


class _ScoresOfRows:
    """Scores (K, H, W) over an image, of which `[:, rows]` computes some; for `Canvas.blocks`."""

    def __init__(self, merger: _ClassScores, mask_logits: Tensor, canvas: Canvas):
        self.merger = merger
        self.masks = ResizedRows(Canvas(canvas.padded, canvas.image, canvas.image), mask_logits)
        self.shape = (len(merger.class_probs), *canvas.image)
        self.device = mask_logits.device

    def __getitem__(self, index: tuple[slice, slice]) -> Tensor:
        rows = index[1]
        scores = self.merger.scores_of(self.masks[rows].sigmoid()).to(self.merger.dtype)
        return scores.view(self.shape[0], rows.stop - rows.start, self.shape[2])


def best_classes(scores: Tensor) -> Tensor:
    """Return the best class of scores (K, ...), int32, the first of equal ones; -1 where its score
    is not finite.

    Places are counted down in bytes, whose maximum takes a third of the time of `Tensor.max`, which
    keeps an index of each value.
    """
    best = scores.amax(0)
    labels = torch.full_like(best, -1, dtype=torch.int32)
    for start in reversed(range(0, len(scores), _PLACES)):
        part = scores[start : start + _PLACES]
        places = torch.arange(len(part), 0, -1, dtype=torch.uint8, device=scores.device)
        hits = (part == best).view(torch.uint8)
        place = hits.mul_(places.view(-1, *[1] * best.dim())).amax(0).int()
        labels = torch.where(place > 0, start + len(part) - place, labels)
    return labels.masked_fill_(best.isinf(), -1)
