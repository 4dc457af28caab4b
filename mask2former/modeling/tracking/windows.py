"""Run a video model over clips of any length, in windows that share frames.

Every frame is read, normalised and passed through the backbone once, whatever the overlap; the head
sees one window at a time. So memory depends on the window and the size of the frames, and not on
the length of the clip. The published model has one window: the whole clip.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UserError
from ...tracks.linking import Objects
from ...tracks.scores import QueryScores
from ...tracks.windows import Windows
from ..postprocessing.canvas import Canvas
from .queries import mask_sums, output_masks, score_queries

Features = dict[str, Tensor]
Size = tuple[int, int]  # H, W in pixels

# Pixels (frames x height x width) that pass the backbone at a time: more are no faster on CPUs.
_PIXELS_PER_CHUNK = {"cpu": 2**19}
_PIXELS_PER_CHUNK_ELSEWHERE = 2**22


@dataclass(frozen=True)
class Window:
    """What the model predicts for the T frames of a window.

    Attributes:
        start: index in the clip of its first frame.
        shared: frames at its start that the window before had too.
        class_logits: (Q, K+1).
        mask_logits: (Q, T, h, w), over the padded canvas.
        embeddings: (Q, C), the decoder's queries, by which objects are identified; None where the
            head does not return them as `pred_embeddings`.
        canvas: says what the masks are resized to.
    """

    start: int
    shared: int
    class_logits: Tensor
    mask_logits: Tensor
    embeddings: Tensor | None
    canvas: Canvas

    @property
    def length(self) -> int:
        """T."""
        return self.mask_logits.shape[1]

    @property
    def size(self) -> Size:
        """(H, W) of the masks wanted."""
        return self.canvas.output

    def scores(self, query_scores: QueryScores) -> np.ndarray:
        """Return scores (Q, K), without no-object."""
        return score_queries(query_scores, self.class_logits, self.mask_logits)

    def objects(self, queries: np.ndarray, scores: np.ndarray) -> Objects:
        """Return what n queries are linked by."""
        masks = (self.mask_logits[queries] > 0).cpu().numpy()
        embeddings = self.embeddings
        if embeddings is None:
            return Objects(masks, scores)
        return Objects(masks, scores, embeddings[queries].float().cpu().numpy())

    def masks(self, queries: np.ndarray, t: int) -> np.ndarray:
        """Return the masks (n, *size), bool, of queries in frame t of the window."""
        return output_masks(self.mask_logits[queries, t], self.canvas).numpy()

    def sums(self, queries: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums (n,) of the probabilities inside the masks in frame t, and the areas."""
        total, shared = mask_sums(self.mask_logits[queries, t])
        return total.cpu().numpy(), shared.diagonal().cpu().numpy()


@torch.no_grad()
def run_windows(
    model: nn.Module, frames: Iterable[Tensor], windows: Windows, output: Size | None = None
) -> Iterator[Window]:
    """Run a model over the frames of a clip, as they come.

    Args:
        model: a `VideoMaskFormer`, in eval mode.
        frames: (3, H, W) each, uint8 or float in 0..255, of one size; read once.
        windows: how to cut.
        output: (H, W) of the masks wanted; that of the frames if not given.

    Raises:
        UserError: there are no frames, or one has another size than the first.
    """
    frames = _of_one_size(frames)
    kept: Features = {}
    seen = 0
    while True:
        wanted = windows.length - windows.overlap if seen else windows.length
        parts, count = [], 0
        for chunk in _chunks(islice(frames, wanted or None), model.device):
            images = model.preprocess(chunk)
            parts.append(model.extract(images.tensor))
            count += len(chunk)
        if not count:
            break
        size = tuple(chunk[0].shape[-2:])
        canvas = Canvas(tuple(images.tensor.shape[-2:]), size, output or size)
        kept = _join(kept, parts, windows.length - count)
        del images, parts  # frees memory for the decoders
        length = len(next(iter(kept.values())))
        seen += count
        outputs = model.decode(kept)
        embeddings = outputs.get("pred_embeddings")
        yield Window(
            start=seen - length,
            shared=length - count,
            class_logits=outputs["pred_logits"][0],
            mask_logits=outputs["pred_masks"][0],
            embeddings=None if embeddings is None else embeddings[0],
            canvas=canvas,
        )
        if not windows.length:
            break
    if not seen:
        raise UserError("a clip needs at least one frame, got none.")


def _of_one_size(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    first: Size | None = None
    for i, frame in enumerate(frames):
        size = tuple(frame.shape[-2:])
        first = first or size
        if size != first:
            raise UserError(
                f"frame {i} of the clip is {size[0]}x{size[1]} (height x width), those before are "
                f"{first[0]}x{first[1]}: expected frames of one size."
            )
        yield frame


def _chunks(frames: Iterator[Tensor], device: torch.device) -> Iterator[list[Tensor]]:
    """Cut frames into lists that pass the backbone at once."""
    pixels = _PIXELS_PER_CHUNK.get(device.type, _PIXELS_PER_CHUNK_ELSEWHERE)
    for first in frames:
        step = max(1, pixels // (first.shape[-2] * first.shape[-1]))
        yield [first, *islice(frames, step - 1)]


def _join(kept: Features, parts: Sequence[Features], room: int) -> Features:
    """Return up to `room` of the last frames kept, followed by the new ones."""
    if kept and room > 0:
        parts = [{name: maps[-room:] for name, maps in kept.items()}, *parts]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
