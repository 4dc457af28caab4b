"""Link the objects of a window, or of a frame, to the tracks of those before.

Objects of two windows are the same if their masks overlap on the frames that the windows share;
those that were not visible there are re-identified by the decoder's queries, as MinVIS (Huang et
al. 2022, section 3.2) links single frames. Where several queries predict one object, the most
confident ones are linked to each other. Objects without a match start a track; a track that is not
seen for long is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .assignment import assign
from .scores import mask_iou

# Of an object that comes back: cosine of its embeddings, and agreement of its classes, measured by
# the Bhattacharyya coefficient.
_MIN_SIMILARITY = 0.5
_MIN_CLASS_OVERLAP = 0.5
_TIE = 1e-4  # gain of the same class, which decides where masks do not


@dataclass(frozen=True)
class Objects:
    """The N objects of a window.

    Attributes:
        masks: (N, T, h, w), bool, at any resolution.
        class_probs: (N, K), without no-object.
        embeddings: (N, C), or None where there are none.
    """

    masks: np.ndarray
    class_probs: np.ndarray
    embeddings: np.ndarray | None = None


@dataclass(eq=False)
class Track:
    """An object over all windows.

    Attributes:
        class_probs: (K,), the mean over the windows that show it, each counted by the frames in
            which it is visible.
        masks: (T, h, w), bool, in the last window that showed it.
        embedding: (C,), an exponential moving average, or None.
        last_seen: index of that window.
        weight: frames that the mean is over.
        id: from 1 on, set by the caller that reports it; 0 until then.
    """

    class_probs: np.ndarray
    masks: np.ndarray
    embedding: np.ndarray | None
    last_seen: int
    weight: float = 0.0
    id: int = 0

    def extend(self, objects: Objects, i: int, now: int) -> None:
        """Add object i of window `now`."""
        weight = float(max(1, objects.masks[i].any((1, 2)).sum()))
        self.weight += weight
        step = objects.class_probs[i] - self.class_probs
        self.class_probs = self.class_probs + step * (weight / self.weight)
        self.masks = objects.masks[i]
        if self.embedding is not None and objects.embeddings is not None:
            self.embedding = (self.embedding + objects.embeddings[i]) / 2
        self.last_seen = now


class TrackLinker:
    """Link the objects of consecutive windows to tracks.

    Args:
        min_iou: IoU, over the shared frames, that masks of one object must have; in 0..1.
        mask_memory: windows for which a track's masks are compared; 1 where windows share frames,
            more where they are single frames in which an object may be missed.
        track_memory: windows after which a track that was not seen again is dropped.
    """

    def __init__(
        self,
        *,
        min_iou: float = 0.1,
        mask_memory: int = 1,
        track_memory: int = 20,
    ):
        self.min_iou = min_iou
        self.mask_memory = mask_memory
        self.track_memory = track_memory
        self.tracks: list[Track] = []
        self.now = -1

    def update(self, objects: Objects, shared: int) -> list[Track]:
        """Link the objects of the next window.

        Args:
            objects: of the window.
            shared: frames at its start that are the last ones of the window before.

        Returns:
            N tracks, no two the same, one for each object.
        """
        self.now += 1
        self.tracks = [t for t in self.tracks if self.now - t.last_seen <= self.track_memory]
        found = self._match(objects, shared)
        for i in range(len(objects.masks)):
            if i not in found:
                embedding = None if objects.embeddings is None else objects.embeddings[i]
                track = Track(objects.class_probs[i], objects.masks[i], embedding, self.now)
                self.tracks.append(track)
                found[i] = track
            found[i].extend(objects, i, self.now)
        return [found[i] for i in range(len(objects.masks))]

    def _match(self, objects: Objects, shared: int) -> dict[int, Track]:
        """Match known tracks, by masks, then by embeddings; return them by their object's index."""
        everything = list(range(len(objects.masks)))
        recent = [t for t in self.tracks if self.now - t.last_seen <= self.mask_memory]
        found: dict[int, Track] = {}
        if recent and everything and shared:
            before = np.stack([t.masks[-shared:] for t in recent])
            iou = mask_iou(before, objects.masks[:, :shared])
            gain = iou * _confidence(recent, objects) + _TIE * _same_class(recent, objects)
            if objects.embeddings is not None:
                gain = gain * (1 + _cosine(recent, objects.embeddings))
            found = self._assign(recent, everything, gain, iou >= self.min_iou)
        if objects.embeddings is None:
            return found
        taken = set(map(id, found.values()))
        lost = [t for t in self.tracks if id(t) not in taken]
        new = [i for i in everything if i not in found]
        if lost and new:
            similarity, may_match = self._similarity(lost, new, objects, shared)
            gain = similarity * _confidence(lost, objects)[:, new]
            found |= self._assign(lost, new, gain, may_match)
        return found

    def _similarity(
        self, lost: Sequence[Track], new: Sequence[int], objects: Objects, shared: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how similar tracks and objects are, and which pairs may match, both (S, N)."""
        cosine = _cosine(lost, objects.embeddings)[:, new]
        probs = [np.stack([t.class_probs for t in lost]), objects.class_probs[new]]
        roots = [np.sqrt(p / np.maximum(p.sum(1, keepdims=True), 1e-6)) for p in probs]
        same_class = roots[0] @ roots[1].T >= _MIN_CLASS_OVERLAP
        # Two that are visible at the same time without overlapping are different objects.
        seen_then = np.array([self._is_visible(t, shared) for t in lost])
        seen_now = objects.masks[new, :shared].any((1, 2, 3))
        apart = seen_then[:, None] & seen_now
        return cosine, (cosine >= _MIN_SIMILARITY) & same_class & ~apart

    def _is_visible(self, track: Track, shared: int) -> bool:
        """Tell whether a track is visible in the shared frames."""
        masks = track.masks[len(track.masks) - shared :]
        return track.last_seen == self.now - 1 and bool(masks.any())

    def _assign(
        self,
        tracks: Sequence[Track],
        indices: Sequence[int],
        gain: np.ndarray,
        may_match: np.ndarray,
    ) -> dict[int, Track]:
        """Return the pairs of highest total gain among those that may match."""
        rows, columns = assign(np.where(may_match, -gain, 1.0))
        return {
            indices[c]: tracks[r]
            for r, c in zip(rows.tolist(), columns.tolist())
            if may_match[r, c]
        }


def _confidence(tracks: Sequence[Track], objects: Objects) -> np.ndarray:
    """Return the product of the class confidences of each pair, (S, N).

    Of two queries on one object, either may overlap better with either of the window before. With
    these weights, pairing the most confident ones has the highest total.
    """
    known = np.stack([t.class_probs.max() for t in tracks])
    return known[:, None] * objects.class_probs.max(1)


def _same_class(tracks: Sequence[Track], objects: Objects) -> np.ndarray:
    """Return how well the classes of each pair agree, (S, N), in 0..1."""
    return np.stack([t.class_probs for t in tracks]) @ objects.class_probs.T


def _cosine(tracks: Sequence[Track], embeddings: np.ndarray | None) -> np.ndarray:
    """Return the cosines (S, N) of the embeddings of S tracks with others (N, C)."""
    known = [t.embedding for t in tracks if t.embedding is not None]
    if embeddings is None or len(known) < len(tracks):
        raise ValueError("all windows of a clip have embeddings, or none has")
    return _unit(np.stack(known)) @ _unit(embeddings).T


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)
