"""What tracks are made of, from the outputs for a window of frames, with numpy."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...tracks.linking import Objects, Track
from ...tracks.scores import QueryScores, best_tracks, mask_iou
from ..resizing import Canvas, Resized
from .instances import Instances, mask_boxes
from .merging import sigmoid, softmax


@dataclass(frozen=True)
class ClipWindow:
    """What a file gives for the T frames of a window, as a `tracks.clips.Window`.

    Attributes:
        shared: frames at its start that the window before had too.
        class_logits: (Q, K+1).
        mask_logits: (Q, T, h, w), over the padded canvas.
        canvas: says what the masks are resized to.
        embeddings: (Q, C), the decoder's queries; None of a file that does not give them.
    """

    shared: int
    class_logits: np.ndarray
    mask_logits: np.ndarray
    canvas: Canvas
    embeddings: np.ndarray | None = None

    @property
    def length(self) -> int:
        """T."""
        return self.mask_logits.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the masks wanted."""
        return self.canvas.output

    def scores(self, query_scores: QueryScores) -> np.ndarray:
        """Return scores (Q, K), without no-object."""
        probs = softmax(self.class_logits)[:, :-1]
        if not query_scores.uses_masks:
            return probs
        inside = self.mask_logits > 0
        total = np.where(inside, sigmoid(self.mask_logits), 0).sum((1, 2, 3))
        quality = total / np.maximum(np.count_nonzero(inside, (1, 2, 3)), 1)
        return query_scores.weigh(probs, quality, mask_iou(inside, inside))

    def objects(self, queries: np.ndarray, scores: np.ndarray) -> Objects:
        """Return what n queries are linked by."""
        embeddings = None if self.embeddings is None else self.embeddings[queries]
        return Objects(self.mask_logits[queries] > 0, scores, embeddings)

    def masks(self, queries: np.ndarray, t: int) -> np.ndarray:
        """Return the masks (n, *size), bool, of queries in frame t of the window."""
        return output_masks(self.mask_logits[queries, t], self.canvas)

    def sums(self, queries: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums (n,) of the probabilities inside the masks in frame t, and the areas."""
        logits = self.mask_logits[queries, t]
        total = np.where(logits > 0, sigmoid(logits), 0).sum((1, 2))
        return total, np.count_nonzero(logits > 0, (1, 2))

    def result(self, query_scores: QueryScores) -> dict:
        """Return the best tracks of a clip that is one window; see `tracks.scores.best_tracks`."""
        scores = self.scores(query_scores)
        return best_tracks(
            self.size, scores, lambda query: output_masks(self.mask_logits[query], self.canvas)
        )


def output_masks(mask_logits: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return binary masks (N, *output) of logits (N, h, w)."""
    masks = np.zeros((len(mask_logits), *canvas.output), bool)
    if len(masks):
        for rows, logits in Resized(mask_logits, canvas).blocks():
            masks[:, rows] = logits > 0
    return masks


def instances_of(frames: Iterator[tuple[list[Track], np.ndarray]]) -> Iterator[Instances]:
    """Yield what each frame shows, of tracks and their masks (N, H, W)."""
    for tracks, masks in frames:
        yield Instances(
            masks,
            mask_boxes(masks),
            np.array([track.class_probs.max() for track in tracks], np.float32),
            np.array([track.class_probs.argmax() for track in tracks], np.int64),
            np.array([track.id for track in tracks], np.int64),
        )
